"""Honest rewrites as the measure: a file that a tool wrote anew must be accepted.

    python benchmarks/rewrites.py [MODEL ...] [--rewrite NAME ...] [--tools PYTHON]
                                  [--keep FOLDER] [--markdown FILE]

Ten models, six trained ones that ship inside packages and four exported from PyTorch with random
weights, in three states: plain, permuted, and rescaled (multiplied by factors that cancel, then
permuted). Honest tools write each anew. Where onnxruntime agrees that the new file computes what
its source does, `check` has to accept it against the untouched reference. Prints one table,
rewrites down and models across, with the verdicts of the three states in each cell, and every
refusal with its reason.

Tools that the project does not install (`rewrites-requirements.txt`) are left out unless --tools
names the Python of an environment that has them. With --keep the files stay: MODEL.onnx, the
reference, and MODEL.REWRITE.STATE.onnx. A second run takes them as they are.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

sys.path.insert(0, str(Path(__file__).parent.parent))

import lady_onnx as lady
from benchmarks import rewriters
from lady_onnx.graph.loading import load_graph
from lady_onnx.pipeline.verdicts import ACCEPTED
from lady_onnx.runtime.sampling import draw_telling_samples
from lady_onnx.runtime.sessions import open_session
from tests.helpers import architectures, real
from tests.helpers.closed_forms import CASES

SHIPPED = ("yolov8n", "open-nsfw", "ppocr-det", "ppocr-cls", "vgg16", "magika")
EXPORTED = {"vit": False, "gpt2": False, "bert": True, "convnext": True}
"""Whether the reference comes from the exporter over torch.export; else from the tracing one."""
MODELS = (*SHIPPED, *EXPORTED)
SLOW = ("vgg16",)
"""Models that run long get one random input; others get inputs that are made to tell as well."""
PLAIN, PERMUTED, RESCALED = STATES = ("plain", "permuted", "rescaled")
DEVIATION = 0.5
"""Of the logarithms of the factors."""
NONE, EXPORTER = "as it is", "other exporter"
REWRITES = (NONE, *rewriters.REWRITERS, EXPORTER)
TOOL_LIMIT_S, CHECK_LIMIT_S = 600, 600
"""Wall time for all states of one model; for one verdict."""
CRASHED, REFUSED = "crashed", "error"
"""`check` raised something; it raised a LadyError."""
FAILED, BROKEN, IDLE, WRONG = "failed", "broken", "idle", "wrong"
"""The tool raised; its file computes something else; nothing to do; BROKEN, and accepted."""
SIGNS = {
    **{"identical": "i", "permuted": "p", "rescaled": "r"},
    **{"altered": "A", "tampered": "T", "unrelated": "U", REFUSED: "E", CRASHED: "!"},
    **{FAILED: "-", BROKEN: "x", IDLE: ".", WRONG: "W"},
}
LEGEND = """\
Accepted: i identical, p permuted, r rescaled.
Refused: A altered, T tampered, U unrelated, E error, ! another exception.
Not counted: - the tool fails, x its file computes something else (W and is accepted), . it has
nothing to do."""
NOT_COUNTED = (FAILED, BROKEN, IDLE, WRONG)

Paths = Sequence[Path]


@dataclass(frozen=True)
class Cell:
    """What became of one state of one model under one rewrite.

    Attributes:
        result: a verdict, or one of the words in `SIGNS`.
        reason: of the verdict, or why there is none.
    """

    model: str
    rewrite: str
    state: str
    result: str
    reason: str

    @property
    def counts(self) -> bool:
        return self.result not in NOT_COUNTED and self.rewrite != NONE

    @property
    def accepted(self) -> bool:
        return self.result in ACCEPTED


class Corpus:
    """A reference, its states, and what honest tools made of them; kept for a second run."""

    def __init__(self, model: str, folder: Path, tools: str, seed: int):
        self.model, self.folder, self.tools, self.seed = model, folder, tools, seed
        self.reference = folder / f"{model}.onnx"
        self.notes_path = folder / f"{model}.json"
        self.notes: dict[str, str] = {}
        if self.notes_path.exists():
            self.notes = json.loads(self.notes_path.read_text())
        self.make_sources()

    def path(self, rewrite: str, state: str) -> Path:
        if rewrite == NONE and state == PLAIN:
            return self.reference
        return self.folder / f"{self.model}.{rewrite.replace(' ', '-')}.{state}.onnx"

    def make_sources(self) -> None:
        """Writes the reference, and its states as they are before any rewrite."""
        if not self.reference.exists():
            onnx.save(read_reference(self.model), self.reference)
        permuted, rescaled = self.path(NONE, PERMUTED), self.path(NONE, RESCALED)
        if not (permuted.exists() and rescaled.exists()):
            save_moved(self.reference, permuted, rescaled, self.seed)

    def make(self, rewrite: str) -> None:
        """Lets a tool write the three states anew, once, and notes what became of it."""
        if all(self.note_name(rewrite, s) in self.notes for s in STATES):
            return
        sources = [self.path(NONE, s) for s in STATES]
        targets = [self.path(rewrite, s) for s in STATES]
        if rewrite == NONE:
            found = [""] * len(STATES)
        elif rewrite == EXPORTER:
            found = export_again(self.model, self.reference, targets, self.seed)
        else:
            python = self.tools if rewrite in rewriters.FOREIGN else sys.executable
            found = run_tool(python, rewrite, self.seed, sources, targets)
        for state, source, target, note in zip(STATES, sources, targets, found, strict=True):
            base = self.reference if rewrite in (NONE, EXPORTER) else source
            self.notes[self.note_name(rewrite, state)] = note or self.compare(state, base, target)
        self.notes_path.write_text(json.dumps(self.notes, indent=1))

    def note_name(self, rewrite: str, state: str) -> str:
        return f"{rewrite}, {state}"

    def compare(self, state: str, source: Path, target: Path) -> str:
        """Why a file is no honest rewrite of its source; empty where onnxruntime sees none."""
        full = state == PLAIN and self.model not in SLOW
        given: dict[str, Any] = {"samples": 1} if full else {"data": self.sample}
        try:
            found = lady.verify(source, target, **given)
        except lady.LadyError as error:
            return f"{BROKEN}: {error}"
        if found.equal:
            return ""
        return f"{BROKEN}: outputs differ by {found.max_rel:.2g} of the largest"

    @cached_property
    def sample(self) -> dict[str, np.ndarray]:
        """A random input on which the model answers with large outputs."""
        graph = load_graph(self.reference)
        return draw_telling_samples(graph, open_session(graph), 1, self.seed)[0]

    def judge(self, rewrite: str, state: str) -> Cell:
        """What `check` says of a file against the reference."""
        note = self.notes[self.note_name(rewrite, state)]
        if note == rewriters.NOTHING:
            return Cell(self.model, rewrite, state, IDLE, note)
        if note and not note.startswith(BROKEN):
            return Cell(self.model, rewrite, state, FAILED, note)
        result, reason = call_check(self.reference, self.path(rewrite, state))
        if note:
            return Cell(self.model, rewrite, state, WRONG if result in ACCEPTED else BROKEN, note)
        return Cell(self.model, rewrite, state, result, reason)


def call_check(reference: Path, suspect: Path) -> tuple[str, str]:
    """The verdict and its reason, or what `check` raised."""
    signal.signal(signal.SIGALRM, end_check)
    signal.alarm(CHECK_LIMIT_S)
    try:
        found = lady.check(reference, suspect)
    except lady.LadyError as error:
        return REFUSED, shorten(str(error), suspect)
    except Exception as error:  # noqa: BLE001 - this is what is looked for
        return CRASHED, shorten(f"{type(error).__name__}: {error}", suspect)
    finally:
        signal.alarm(0)
    return found.verdict, shorten(found.reason, suspect)


def shorten(text: str, suspect: Path) -> str:
    """A reason without the folder of the files that it names."""
    return text.replace(f"{suspect.parent}/", "")


def end_check(*_: object) -> None:
    raise TimeoutError(f"no verdict after {CHECK_LIMIT_S} s")


def run_tool(python: str, rewrite: str, seed: int, sources: Paths, targets: Paths) -> list[str]:
    """Runs a tool in a process of its own; why it wrote nothing, by state."""
    pairs = [str(path) for pair in zip(sources, targets, strict=True) for path in pair]
    command = [python, rewriters.__file__, rewrite, str(seed), *pairs]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TOOL_LIMIT_S)
    except subprocess.TimeoutExpired:
        return [f"no end after {TOOL_LIMIT_S} s"] * len(sources)
    if done.returncode:
        why = (done.stderr.strip().splitlines() or [""])[-1]
        return [f"exit code {done.returncode}: {why}"] * len(sources)
    return json.loads(done.stdout.splitlines()[-1])


# ---- models


def build_module(model: str) -> tuple[torch.nn.Module, tuple[torch.Tensor, ...]]:
    torch.manual_seed(0)
    net, inputs, _, _ = CASES[model]()
    return architectures.randomise(net).eval(), inputs


def read_reference(model: str) -> onnx.ModelProto:
    if model in SHIPPED:
        return onnx.load(real.path(model))
    net, inputs = build_module(model)
    return export(net, inputs, EXPORTED[model])


def export(
    net: torch.nn.Module, inputs: tuple[torch.Tensor, ...], dynamo: bool, **names: list[str]
) -> onnx.ModelProto:
    with contextlib.redirect_stdout(io.StringIO()):
        return architectures.export(net, *inputs, dynamo=dynamo, **names)


def export_again(model: str, reference: Path, targets: Paths, seed: int) -> list[str]:
    """Lets the other PyTorch exporter write the module, and moves its units.

    Inputs and outputs keep the reference's names.
    """
    if model not in EXPORTED:
        return [rewriters.NOTHING] * len(targets)
    net, inputs = build_module(model)
    graph = onnx.load(reference).graph
    names = {
        "input_names": [v.name for v in graph.input],
        "output_names": [v.name for v in graph.output],
    }
    try:
        plain = export(net, inputs, not EXPORTED[model], **names)
    except Exception as error:  # noqa: BLE001 - exporters raise anything
        return [f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"] * len(targets)
    onnx.save(plain, targets[0])
    save_moved(plain, targets[1], targets[2], seed)
    return [""] * len(targets)


def save_moved(model: onnx.ModelProto | Path, permuted: Path, rescaled: Path, seed: int) -> None:
    """Writes a model with its units moved, and with its units multiplied and moved."""
    lady.permute(model, seed).save(permuted)
    lady.permute(lady.attack(model, "rescale", DEVIATION, seed=seed).model, seed + 1).save(rescaled)


# ---- the table


def draw_table(cells: Sequence[Cell], models: Sequence[str], rewrites: Sequence[str]) -> str:
    """Rewrites down, models across, in each cell the three states."""
    signs = {(c.rewrite, c.model, c.state): SIGNS[c.result] for c in cells}
    lines = [f"| rewrite | {' | '.join(models)} | accepted |", "| --- " * (len(models) + 2) + "|"]
    for rewrite in rewrites:
        row = ["".join(signs.get((rewrite, m, s), " ") for s in STATES) for m in models]
        own = [c for c in cells if c.rewrite == rewrite and c.counts]
        lines.append(f"| {rewrite} | {' | '.join(row)} | {share(own) if own else ''} |")
    counted = [c for c in cells if c.counts]
    columns = [share([c for c in counted if c.model == m]) for m in models]
    lines.append(f"| all | {' | '.join(columns)} | {share(counted)} |")
    return "\n".join(lines)


def share(cells: Sequence[Cell]) -> str:
    accepted = sum(c.accepted for c in cells)
    return f"{accepted}/{len(cells)}" + (f" ({100 * accepted / len(cells):.1f} %)" if cells else "")


def describe(cells: Sequence[Cell]) -> Iterator[str]:
    """Totals, then refusals, wrong yeses and what tools could not do."""
    counted = [c for c in cells if c.counts]
    for state in STATES:
        yield f"{state}: {share([c for c in counted if c.state == state])} accepted"
    verdicts = Counter(c.result for c in counted)
    yield f"in all: {share(counted)} accepted"
    yield f"tampered: {verdicts['tampered']}, exceptions: {verdicts[CRASHED]}"
    wrong = sum(c.result == WRONG for c in cells)
    yield f"files that compute something else and are accepted: {wrong}"
    for title, chosen in (
        ("Refused", [c for c in cells if c.result not in (*ACCEPTED, *NOT_COUNTED)]),
        ("Accepted though the outputs differ", [c for c in cells if c.result == WRONG]),
        ("What tools broke, or could not do", [c for c in cells if c.result in (BROKEN, FAILED)]),
    ):
        yield f"\n{title}:\n"
        if not chosen:
            yield "none"
        else:
            yield "| model | rewrite | states | result | reason |"
            yield "| --- | --- | --- | --- | --- |"
        for (model, rewrite, result, reason), states in group_states(chosen).items():
            yield f"| {model} | {rewrite} | {', '.join(states)} | {result} | {reason} |"


def group_states(cells: Sequence[Cell]) -> dict[tuple[str, str, str, str], list[str]]:
    """The states by what became of them, and why: one line says it for all of them."""
    groups: dict[tuple[str, str, str, str], list[str]] = {}
    for c in cells:
        reason = c.reason.replace("|", "\\|").replace(f".{c.state}.onnx", ".onnx")
        key = (c.model, c.rewrite, c.result, " ".join(reason.split()))
        groups.setdefault(key, []).append(c.state)
    return groups


def cpu_seconds() -> float:
    """CPU time of this process and of all that it started."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def measure(given: argparse.Namespace, rewrites: Sequence[str], folder: Path) -> list[Cell]:
    """Makes what is not there yet, and checks it, unless the files are all that is wanted."""
    cells = []
    for model in given.models:
        start = time.monotonic()
        corpus = Corpus(model, folder, given.tools, given.seed)
        for rewrite in rewrites:
            corpus.make(rewrite)
        print(f"{model}: files after {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
        if given.only_make:
            continue
        for rewrite in rewrites:
            row = [corpus.judge(rewrite, state) for state in STATES]
            cells += row
            signs = "".join(SIGNS[c.result] for c in row)
            print(f"{model} {rewrite}: {signs}", file=sys.stderr, flush=True)
    return cells


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    add("models", nargs="*", help=f"of {', '.join(MODELS)}; all by default")
    add("--rewrite", action="append", choices=REWRITES, help="one of them, as often as given")
    add("--tools", help="the Python of an environment that has the foreign tools")
    add("--keep", type=Path, help="a folder for the files; those that are there are taken")
    add("--only-make", action="store_true", help="write the files, and check none")
    add("--markdown", type=Path, help="a file for the table")
    add("--seed", type=int, default=1)
    given = parser.parse_args()
    if unknown := set(given.models) - set(MODELS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; one of {', '.join(MODELS)}")
    given.models = [m for m in MODELS if not given.models or m in given.models]
    return given


def main() -> int:
    given = parse()
    rewrites = [r for r in REWRITES if not given.rewrite or r in given.rewrite]
    if given.tools is None:
        rewrites = [r for r in rewrites if r not in rewriters.FOREIGN]
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as name:
        folder = given.keep or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        cells = measure(given, rewrites, folder)
    if given.only_make:
        return 0
    text = "\n".join([draw_table(cells, given.models, rewrites), "", LEGEND, "", *describe(cells)])
    text += f"\n\nseed {given.seed}, {cpu_seconds():.0f} s of CPU time"
    print(text)
    if given.markdown:
        given.markdown.write_text(text + "\n")
    return int(any(c.result in ("tampered", CRASHED, WRONG) for c in cells))


if __name__ == "__main__":
    sys.exit(main())
