"""Trials of `check`: a model, a copy with one change, perhaps disguised, and onnxruntime's word."""

from __future__ import annotations

import tempfile
import traceback
import warnings
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto

import lady_onnx as lady

from . import disguises, dressing, messages, mutants, oracle
from .bases import Base

ATTEMPTS = 60
"""So many models are tried until one allows a change of the field."""
RUNNABLE = 30
"""Of these the first ones must run as they are."""
LOADED = 0.85
"""The share of trials whose mutant must load, as long as one is found."""
DISGUISED = 0.6
"""The share of mutants that are rewritten besides."""
FILED = 0.15
"""The share of pairs that are checked as files, not as models in memory."""
HALVES = {TensorProto.FLOAT16, TensorProto.BFLOAT16}
REFUSED, CRASHED, LOST = "refused", "crash", "lost"


@dataclass(frozen=True)
class Trial:
    """What became of one mutant.

    Attributes:
        index: of the trial; with the seed it gives the same one again.
        kind: the field that was changed, as `Message.field`.
        base: the model; empty where none allowed a change.
        change: what was done.
        rewrites: the names of the honest rewrites behind it.
        state: onnxruntime's word, as in `oracle`; empty where there was no mutant.
        apart: the largest difference of the outputs.
        verdict: of `check`; `REFUSED` where it raised LadyError, `CRASHED` where anything else;
            `LOST` where onnxruntime brought the process down.
        reason: its reason, or the error.
        accepted: whether the mutant was accepted.
    """

    index: int
    kind: str
    base: str = ""
    change: str = ""
    rewrites: tuple[str, ...] = ()
    state: str = ""
    apart: float = 0.0
    verdict: str = ""
    reason: str = ""
    accepted: bool = False

    @property
    def wrong(self) -> bool:
        """Was another program accepted?"""
        return self.accepted and self.state == oracle.DIFFERENT

    def __str__(self) -> str:
        behind = f", then {', '.join(self.rewrites)}" if self.rewrites else ""
        what = f"{self.verdict}: {self.reason}" if self.reason else self.verdict
        change = f"{self.index}: {self.base}: {self.change}{behind}"
        return f"{change}; outputs {self.state} by {self.apart:.3g}; {what}"


def by_family(bases: Sequence[Base]) -> dict[str, list[Base]]:
    found: dict[str, list[Base]] = defaultdict(list)
    for base in bases:
        found[base.family].append(base)
    return dict(found)


def kind_of(index: int) -> messages.Kind:
    """The field that a trial changes: all fields in turn, and besides those that can tell."""
    kinds = messages.KINDS if index % 2 == 0 else messages.TELLING
    return kinds[index // 2 % len(kinds)]


def run_trial(
    families: dict[str, list[Base]],
    seed: int,
    index: int,
    keep: Path | None = None,
    entered: Callable[[str], None] = lambda stage: None,
) -> Trial:
    """Makes one mutant and has it judged by onnxruntime and by `check`.

    Args:
        families: the models, by family.
        seed, index: of the trial.
        keep: a folder for the pair of files, where it was accepted wrongly or `check` crashed.
        entered: is told the name of each stage, so that one that never ends can be told.
    """
    rng = np.random.default_rng([seed, index])
    kind = kind_of(index)
    with tempfile.TemporaryDirectory() as name, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder = Path(name)
        entered("mutation")
        made = _mutant(families, kind, rng, folder)
        if made is None:
            return Trial(index, ".".join(kind))
        is_declared = (
            kind[0].startswith(("Type", "TensorShape", "ValueInfo")) or kind[-1] == "value_info"
        )
        pair = _Pair(*made, folder=folder, is_declared=is_declared)
        if rng.random() < DISGUISED and not dressing.is_outside(pair.mutant):
            entered("disguise")
            pair.disguise(rng)
        entered("oracle")
        state, apart = pair.judge(index)
        entered("check")
        filed = dressing.is_outside(pair.suspect) or rng.random() < FILED
        verdict, reason, accepted = _checked(
            *(pair.filed() if filed else (pair.reference, pair.suspect))
        )
        if accepted and state == oracle.DIFFERENT and pair.shaky():
            state = oracle.UNDECIDED
        found = Trial(
            index,
            ".".join(kind),
            pair.base.name,
            pair.change,
            tuple(pair.rewrites),
            state,
            apart,
            verdict,
            reason,
            accepted,
        )
        if keep is not None and (found.wrong or verdict == CRASHED):
            _keep(pair, found, keep)
        return found


def _mutant(
    families: dict[str, list[Base]], kind: messages.Kind, rng: messages.Random, folder: Path
) -> tuple[Base, ModelProto, ModelProto, str] | None:
    """A model, the reference that it becomes, a copy with one change, and what that is."""
    homes = [b for b in families["special"] if b.name in dressing.homes(kind)]
    loaded = rng.random() < LOADED
    for attempt in range(ATTEMPTS):
        family = families[messages.pick(rng, sorted(families))]
        base = messages.pick(rng, homes if homes and rng.random() < 0.5 else family)
        reference = base.model()
        try:
            dressing.prepare(reference, kind, rng, folder)
            if attempt < RUNNABLE and oracle.opened(_source(reference, folder)) is None:
                continue
            mutant = messages.copied(reference)
            change = mutants.mutate(mutant, kind, rng)
            if attempt < RUNNABLE and loaded and oracle.opened(_source(mutant, folder)) is None:
                continue
            return base, reference, mutant, change
        except (messages.NotPossibleError, ValueError, TypeError, OverflowError):
            # protobuf takes no such value in this field
            continue
    return None


def _source(model: ModelProto, folder: Path) -> bytes | Path:
    data = model.SerializeToString()
    if not dressing.is_outside(model):
        return data
    path = folder / "probe.onnx"
    path.write_bytes(data)
    return path


@dataclass
class _Pair:
    base: Base
    reference: ModelProto
    mutant: ModelProto
    change: str
    folder: Path
    is_declared: bool
    """Was it changed what the file declares of a value? By that onnxruntime folds and fuses."""

    def __post_init__(self) -> None:
        self.suspect = self.mutant
        self.rewrites: list[str] = []
        self.where = -1
        self.samples: list[oracle.Sample] = []

    def disguise(self, rng: messages.Random) -> None:
        suspect, names = disguises.disguise(self.mutant, rng)
        if names and oracle.opened(_source(suspect, self.folder)) is not None:
            self.suspect, self.rewrites = suspect, names

    def judge(self, seed: int) -> tuple[str, float]:
        """onnxruntime's word on the suspect.

        A difference that the rewrites make alone needs to be a clear one.
        """
        self.session = oracle.opened(_source(self.reference, self.folder))
        if self.session is None:
            return oracle.INVALID, np.inf
        lengths = [n for t in self.reference.graph.initializer for n in t.dims if n < 1000]
        self.samples = list(oracle.samples(self.session, self.base.examples, lengths, seed))
        state, apart, self.where = self._against(self.mutant)
        if self.rewrites and state != oracle.INVALID:
            plain = state
            state, apart, self.where = self._against(self.suspect)
            if plain == oracle.EQUAL and state == oracle.UNDECIDED:
                state = oracle.EQUAL
            elif (
                state == oracle.DIFFERENT and plain != oracle.DIFFERENT and self.shaky(self.nudge())
            ):
                state = oracle.UNDECIDED
        if state == oracle.EQUAL and self.is_declared:
            sources = (_source(m, self.folder) for m in (self.reference, self.suspect))
            optimised = oracle.judge(
                *(oracle.opened(s, is_optimised=True) for s in sources), self.samples
            )
            if optimised[0] == oracle.DIFFERENT:
                state, apart, self.where = optimised
        return state, apart

    def _against(self, model: ModelProto) -> tuple[str, float, int]:
        return oracle.judge(self.session, oracle.opened(_source(model, self.folder)), self.samples)

    def nudge(self) -> float:
        """By how much of itself rounding moves a value of the reference."""
        graph = self.reference.graph
        types = {p.message.data_type for p in messages.named(graph, "TensorProto")}
        types |= {a.i for n in graph.node for a in n.attribute if a.name in ("to", "dtype")}
        types |= {v.type.tensor_type.elem_type for v in (*graph.input, *graph.output)}
        return oracle.NUDGE_OF_HALVES if types & HALVES else oracle.NUDGE

    def shaky(self, nudge: float = oracle.NUDGE) -> bool:
        """Does the reference differ from itself as much, or when its inputs move a little?"""
        if self.where < 0:
            return False
        sample = self.samples[self.where]
        again = oracle.opened(_source(self.reference, self.folder))
        if oracle.difference(oracle.run(self.session, sample), oracle.run(again, sample)) > 0:
            return True
        suspect = oracle.run(oracle.opened(_source(self.suspect, self.folder)), sample)
        apart = oracle.difference(oracle.run(self.session, sample), suspect)
        # where inputs are cut off at a bound, what is rounded behind it moves all the same
        return bool(self.rewrites) and apart <= oracle.STEEP * max(
            nudge, oracle.steepness(self.session, sample, nudge)
        )

    def filed(self) -> tuple[Path, Path]:
        paths = self.folder / "reference.onnx", self.folder / "suspect.onnx"
        for path, model in zip(paths, (self.reference, self.suspect), strict=True):
            path.write_bytes(model.SerializeToString())
        return paths


def _checked(reference: Any, suspect: Any) -> tuple[str, str, bool]:
    try:
        found = lady.check(reference, suspect)
    except lady.LadyError as error:
        return REFUSED, str(error), False
    except Exception:  # noqa: BLE001 - any other error is a finding
        lines = traceback.format_exc().strip().splitlines()
        return CRASHED, " | ".join(s.strip() for s in [lines[-1], *lines[-7:-1]]), False
    return found.verdict, found.reason, found.accepted


def _keep(pair: _Pair, found: Trial, keep: Path) -> None:
    folder = keep / str(found.index)
    folder.mkdir(parents=True, exist_ok=True)
    for name, model in (
        ("reference", pair.reference),
        ("suspect", pair.suspect),
        ("mutant", pair.mutant),
    ):
        (folder / f"{name}.onnx").write_bytes(model.SerializeToString())
    if (pair.folder / dressing.OUTSIDE).exists():
        (folder / dressing.OUTSIDE).write_bytes((pair.folder / dressing.OUTSIDE).read_bytes())
    (folder / "trial.txt").write_text(f"{found}\n")
    if pair.where >= 0:
        arrays = {
            n: v
            for n, v in pair.samples[pair.where].items()
            if isinstance(v, np.ndarray) and v.dtype != object
        }
        np.savez(folder / "sample.npz", **arrays)
