"""The paper's Table 1: units put back after a shuffle and an attack, beside other ways.

    python benchmarks/table1.py [MODEL ...] [--modes aimed all tuned] [--seed 1]
    python benchmarks/table1.py --draw

The other ways are the paper's own figures, its Algorithm 1, and older ones. Adds to
benchmarks/table1.csv a line a cell; `--draw` prints the tables and draws the figures from there.
`aimed`, as in the paper: the penultimate layer's units are shuffled and its weight is attacked.
`all`: all groups, and every weight that a group touches; Algorithm 1 then goes from layer to layer,
and `oracle` is what it would find in every layer if all others were known to be in place. `tuned`:
all groups of copies that were trained on. Networks that no package ships come from
`python benchmarks/train.py`; needs the extras `test` and `bench`.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent.parent))

import lady_onnx as lady
from benchmarks.table1_report import (
    ATTACKS,
    FIELDS,
    HERE,
    MODELS,
    curves,
    published,
    read,
    summary,
    tables,
    write,
)
from benchmarks.train import SHARES, TRAINED
from lady_onnx.dataflow.engine import analyse_graph
from lady_onnx.editing.permuting import permute_graph
from lady_onnx.graph.loading import load_graph
from lady_onnx.graph.model import Graph
from lady_onnx.groups.model import Group, Slot
from lady_onnx.groups.permutations import Nesting, invert_permutations
from lady_onnx.groups.rows import take_rows
from lady_onnx.matching.evidence.scores import compute_cosines
from lady_onnx.matching.incoming import find_incoming_slots
from lady_onnx.numerics import as_finite
from lady_onnx.picture import draw_matrices
from lady_onnx.runtime.comparing.data import read_data
from lady_onnx.runtime.comparing.metrics import compute_metric
from lady_onnx.runtime.sessions import open_session, run_sample
from lady_onnx.scaling.walk import find_scalings
from lady_onnx.symmetry.finder import extract_groups
from tests.helpers import real

ROW = 8
"""A layer's units have at least so many weights each; with fewer it is a bias."""
MEASURED = 1000
"""So many held-out samples tell the task's metric."""


def hits(
    group: Group, truth: np.ndarray, found: np.ndarray, arrays: Mapping[str, np.ndarray]
) -> np.ndarray:
    """Which units are in their place, in the first order.

    Others that are equal to them in every slot of `arrays` count as them.
    """
    right = found == truth
    there = np.argsort(truth)
    for unit in np.flatnonzero(~right):
        other = there[found[unit]]
        rows = (take_rows(arrays[s.initializer], s) for s in group.slots)
        right[unit] = all(np.array_equal(r[unit], r[other]) for r in rows)
    return right


def equal(
    group: Group, ours: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray]
) -> np.ndarray:
    """Which units are equal in every slot."""
    pairs = (
        (take_rows(ours[s.initializer], s), take_rows(theirs[s.initializer], s))
        for s in group.slots
    )
    return np.all([(a == b).all(1) for a, b in pairs], 0)


def best_cosines(
    slots: Sequence[Slot], ours: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray]
) -> np.ndarray:
    """Algorithm 1 of the paper: of every row the likest, all other layers at their places."""
    x, y = (
        np.concatenate([take_rows(as_finite(a[s.initializer]), s) for s in slots], 1)
        for a in (ours, theirs)
    )
    return _kept(compute_cosines(x, y), y)


def _kept(scores: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Which rows want themselves, or another that is equal to them."""
    best = scores.argmax(1)
    return np.array([j == i or np.array_equal(rows[i], rows[j]) for i, j in enumerate(best)])


def norms(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Ranking by norm: the units whose rank is as it was."""
    order = np.argsort(np.abs(x).sum(1), kind="stable"), np.argsort(np.abs(y).sum(1), kind="stable")
    found = np.empty(len(x), int)
    found[order[0]] = order[1]
    return found == np.arange(len(x))


def trigger(x: np.ndarray, steps: int = 60) -> np.ndarray:
    """An input for every unit, learned so that it alone answers, [units, elements]."""
    rows = torch.from_numpy(x)
    inputs = (rows / rows.norm(dim=1, keepdim=True).clamp_min(1e-12)).clone().requires_grad_()
    labels = torch.arange(len(x))
    optimiser = torch.optim.Adam([inputs], 0.01)
    for _ in range(steps):
        optimiser.zero_grad()
        answers = inputs @ rows.T
        torch.nn.functional.cross_entropy(
            answers / answers.detach().std().clamp_min(1e-12), labels
        ).backward()
        optimiser.step()
    return inputs.detach().numpy()


class Bench:
    """One network: its groups, the layer that is aimed at, and what its task says of it."""

    def __init__(self, name: str, seed: int):
        self.name, self.model, self.seed = name, MODELS[name], seed
        path = real.path(self.model.shipped) if self.model.shipped else TRAINED / f"{name}.onnx"
        self.graph = load_graph(path)
        analysis = analyse_graph(self.graph)
        self.groups = extract_groups(analysis).groups
        self.told = find_incoming_slots(
            self.groups, find_scalings(self.graph, analysis, self.groups)
        )
        order = {n: k for k, (node, _) in enumerate(analysis.steps) for n in node.input}
        tops = {g.id: g for g in self.groups if not g.parents and g.kind != "blocks"}
        layers = [
            (order.get(s.initializer, -1), name, s)
            for name in tops
            for s in self.told.get(name, ())
            if self.graph.array(s.initializer).size >= ROW * tops[name].size
        ]
        _, owner, self.slot = max(layers, key=lambda found: found[0])
        self.aimed = tops[owner]
        self.data = read_data(TRAINED / f"{name}.npz") if self.model.metric else None
        self.paper = published()
        self.untouched = self.metric(self.graph)
        rows = take_rows(as_finite(self.graph.array(self.slot.initializer)), self.slot)
        self.trigger = trigger(rows)

    def moves(self, groups: Sequence[Group]) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(self.seed)
        return {g.id: rng.permutation(g.size) for g in groups}

    def metric(self, graph: Graph) -> float | None:
        """Error in percent, or the mean squared error."""
        if self.data is None:
            return None
        assert self.model.metric is not None
        sample = {name: self.data[name][:MEASURED] for name in self.data if name != "labels"}
        found = compute_metric(
            self.model.metric,
            run_sample(open_session(graph), graph, sample)[0],
            self.data["labels"][:MEASURED],
        )
        return 100 * (1 - found) if self.model.metric == "accuracy" else found

    def cells(self, mode: str, attacks: Sequence[str], most: float) -> Iterator[dict[str, object]]:
        if mode == "tuned":
            for share in SHARES if (TRAINED / f"{self.name}-{SHARES[0]}.onnx").exists() else ():
                path = TRAINED / f"{self.name}-{share}.onnx"
                if path.exists():
                    yield self.cell(mode, "finetune", share, load_graph(path))
            return
        for kind, (_, values) in ATTACKS.items():
            for value in values if kind != "finetune" and kind in attacks else ():
                if kind == "noise" and value > most:
                    continue
                weights = [self.slot.initializer] if mode == "aimed" else None
                strength = value / 100 if kind == "prune" else value
                yield self.cell(
                    mode,
                    kind,
                    value,
                    lady.attack(self.graph, kind, strength, weights=weights, seed=self.seed).graph,
                )

    def cell(self, mode: str, kind: str, value: float, attacked: Graph) -> dict[str, object]:
        moved = [self.aimed] if mode == "aimed" else self.groups
        moves = self.moves(moved)
        suspect = permute_graph(attacked, self.groups, moves)
        truth = {g.id: np.arange(g.size) for g in self.groups} | invert_permutations(
            Nesting(self.groups), moves
        )
        start = time.perf_counter()
        found = lady.resync(self.graph, suspect, verify="none")
        seconds = time.perf_counter() - start
        names = {s.initializer for g in moved for s in g.slots}
        ours, theirs = ({n: g.array(n) for n in names} for g in (self.graph, attacked))
        right = {g.id: hits(g, truth[g.id], found.permutations[g.id], theirs) for g in moved}
        back = {n: found.graph.array(n) for n in names}
        for g in moved:
            right[g.id] |= equal(g, back, theirs)
        worst = min(right, key=lambda g: right[g].mean())
        certainty = {m.group: m.certainty for m in found.matches}
        slots = {self.aimed.id: [self.slot]} if mode == "aimed" else self.told
        first = [best_cosines(slots[g.id], ours, theirs) for g in moved if slots.get(g.id)]
        row: dict[str, object] = {
            "model": self.name,
            "mode": mode,
            "attack": kind,
            "value": f"{value:g}",
            "groups": len(moved),
            "units": sum(g.size for g in moved),
            "psi": percent(np.concatenate(list(right.values()))),
            "worst": percent(right[worst]),
            "worst_group": worst,
            "estimate": percent(np.concatenate([certainty[g.id] for g in moved])),
            "oracle": percent(np.concatenate(first)),
            "seconds": f"{seconds:.1f}",
        }
        if mode != "aimed":
            paper = lady.resync(
                self.graph, suspect, verify="none", evidence="incoming", assignment="argmax"
            )
            row["algorithm1"] = percent(
                np.concatenate(
                    [hits(g, truth[g.id], paper.permutations[g.id], theirs) for g in moved]
                )
            )
        else:
            row["algorithm1"] = row["oracle"]
            x, y = (
                take_rows(as_finite(a[self.slot.initializer]), self.slot) for a in (ours, theirs)
            )
            row["norms"] = percent(norms(x, y))
            row["trigger"] = percent(_kept(self.trigger @ y.T, y))
        known = self.paper.get((ATTACKS[kind][0], self.model.paper, float(value)))
        row["paper"] = "" if known is None or mode == "all" else f"{known:.2f}"
        error = self.metric(found.graph)
        row["metric"] = "" if error is None else f"{error:.4g}"
        row["untouched"] = "" if self.untouched is None else f"{self.untouched:.4g}"
        return row


def percent(share: np.ndarray) -> str:
    return f"{100 * float(np.mean(share)):.2f}"


def similarities(path: Path, name: str = "vgg16-fashion", shown: int = 64, share: int = 2) -> None:
    """The paper's Figure 6: the cosines of a layer's units.

    Without a shuffle, with one, with training on top, and put back.
    """
    bench = Bench(name, 1)
    moves = bench.moves(bench.groups)
    tuned = load_graph(TRAINED / f"{name}-{share}.onnx")
    suspect = permute_graph(tuned, bench.groups, moves)
    back = lady.resync(bench.graph, suspect, verify="none").graph
    titles = ("as it is", "shuffled", f"trained on for {share} %, and shuffled", "put back")
    graphs = (bench.graph, permute_graph(bench.graph, bench.groups, moves), suspect, back)
    slot = bench.slot
    x = take_rows(as_finite(bench.graph.array(slot.initializer)), slot)
    panels = [
        compute_cosines(x, take_rows(as_finite(g.array(slot.initializer)), slot))[:shown, :shown]
        for g in graphs
    ]
    path.write_text(draw_matrices(list(zip(titles, panels, strict=True))))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("models", nargs="*", metavar="MODEL", help=f"of {', '.join(MODELS)}")
    parser.add_argument(
        "--modes", nargs="+", choices=("aimed", "all", "tuned"), default=("aimed", "all", "tuned")
    )
    parser.add_argument("--attacks", nargs="+", choices=tuple(ATTACKS), default=tuple(ATTACKS))
    parser.add_argument(
        "--most", type=float, default=np.inf, help="the strongest noise: the hopeless takes longest"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--draw", action="store_true")
    args = parser.parse_args()
    if args.draw:
        rows = read()
        tables(rows)
        summary(rows)
        curves(rows, HERE / "table1.svg")
        similarities(HERE / "table1-similarity.svg")
        return
    for name in args.models or MODELS:
        bench = Bench(name, args.seed)
        print(
            f"{name}: {len(bench.groups)} groups, "
            f"aimed at {bench.slot.initializer} axis {bench.slot.axis}",
            flush=True,
        )
        for mode in args.modes:
            for row in bench.cells(mode, args.attacks, args.most):
                key = tuple(row[f] for f in FIELDS[:4])
                write([*(r for r in read() if tuple(r[f] for f in FIELDS[:4]) != key), row])
                print(
                    " ".join(f"{k}={v}" for k, v in row.items() if k != "model" and v != ""),
                    flush=True,
                )


if __name__ == "__main__":
    main()
