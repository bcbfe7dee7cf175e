"""Units put back under Gaussian noise on every tensor that a group touches, on trained models.

    python benchmarks/noise.py [MODEL ...] [--levels 0 0.1 0.5 1 2] [--seed 1]

Prints Psi, the percent of units back in their place, level by level. A unit that computes the same
as another, or nothing, may be in the other's place. Beside it, for the level `--beside`, stands
what a match of each group's incoming rows finds with all other groups in place, row by row and by
the best assignment, and how many units nothing tells apart. The models are read in place from the
packages that ship them.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from scipy.optimize import linear_sum_assignment

sys.path.insert(0, str(Path(__file__).parent.parent))

import lady_onnx as lady
from lady_onnx.dataflow.engine import analyse_graph
from lady_onnx.graph.loading import load_graph
from lady_onnx.graph.model import Graph
from lady_onnx.groups.permutations import Nesting, invert_permutations
from lady_onnx.groups.rows import take_rows
from lady_onnx.matching.evidence.scores import compute_cosines
from lady_onnx.matching.incoming import find_incoming_slots
from lady_onnx.numerics import as_finite
from lady_onnx.scaling.walk import find_scalings
from lady_onnx.symmetry.finder import extract_groups
from tests.helpers import real


def psi(reference: Graph, level: float, seed: int) -> tuple[float, float, int]:
    """Percent of the units of all groups that are put back, and how many units there are.

    The second number is the same percent where like units count as one.
    """
    shuffled = lady.permute(reference, seed)
    groups = shuffled.symmetry.groups
    suspect = lady.attack(shuffled.graph, "noise", level, seed=seed).graph
    found = lady.resync(reference, suspect, verify="none")
    truth = invert_permutations(Nesting(groups), shuffled.permutations)
    strict = right = units = 0
    for group in groups:
        here = found.permutations[group.id] == truth[group.id]
        strict += int(here.sum())
        place = np.argsort(truth[group.id])
        for alike in found.interchangeable.get(group.id, ()):
            units += len(alike)
            there = place[found.permutations[group.id][list(alike)]]
            here[list(alike)] |= np.isin(there, alike)
        right += int(here.sum())
    total = sum(g.size for g in groups)
    return 100 * strict / total, 100 * right / total, units


def row_wise(graph: Graph, level: float, seed: int) -> tuple[float, float]:
    """Percent of units that their incoming rows find, all other groups in place.

    First with each unit at its best place, then by assignment.
    """
    analysis = analyse_graph(graph)
    groups = extract_groups(analysis).groups
    told = find_incoming_slots(groups, find_scalings(graph, analysis, groups))
    noisy = lady.attack(graph, "noise", level, seed=seed).graph
    best = assigned = total = 0
    for slots in told.values():
        if slots:
            x, y = (
                np.concatenate([take_rows(as_finite(g.array(s.initializer)), s) for s in slots], 1)
                for g in (graph, noisy)
            )
            scores = compute_cosines(x, y)
            units = np.arange(len(x))
            best += int((scores.argmax(1) == units).sum())
            assigned += int((linear_sum_assignment(scores, maximize=True)[1] == units).sum())
            total += len(x)
    return 100 * best / total, 100 * assigned / total


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("models", nargs="*", metavar="MODEL", help=f"of {', '.join(real.MODELS)}")
    parser.add_argument("--levels", type=float, nargs="+", default=[0, 0.1, 0.5, 1, 2])
    parser.add_argument("--beside", type=float, default=1)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    shown = [f"{level:g}" for level in args.levels]
    columns = [
        *shown,
        f"like ones as one, {args.beside:g}",
        f"row by row, {args.beside:g}",
        "best assignment of rows",
        "like units",
    ]
    print(f"| model | {' | '.join(columns)} |\n| --- |{' --- |' * len(columns)}")
    for name in args.models or real.MODELS:
        graph = load_graph(real.path(name))
        found = {level: psi(graph, level, args.seed) for level in {*args.levels, args.beside}}
        _, counted, units = found[args.beside]
        figures = [
            *(found[level][0] for level in args.levels),
            counted,
            *row_wise(graph, args.beside, args.seed),
        ]
        print(f"| {name} | {' | '.join(f'{f:.2f}' for f in figures)} | {units} |", flush=True)


if __name__ == "__main__":
    main()
