"""Trained models, every unit moved and multiplied at random by factors that cancel, signs flipped where that may be.

    python benchmarks/rescale.py [--strength 0.5] [--seed 1] [MODEL.onnx ...]

Prints how many groups let factors pass, what `check` says, Psi, the largest difference from the reference's weights in
units of their largest, and seconds. The models are read in place from the packages that ship them; others may be given.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

import lady_onnx as lady
from lady_onnx.graph import load
from lady_onnx.rewrite import Family, invert
from tests import real


def row(name: str, path: Path, strength: float, seed: int) -> str:
    """One line of the table."""
    reference = load(path)
    multiplied = lady.attack(reference, "rescale", strength, seed=seed)
    shuffled = lady.permute(multiplied.graph, seed)
    groups = shuffled.symmetry.groups
    touched = sum(any(s.initializer in multiplied.weights for s in g.slots) for g in groups if g.kind != "blocks")
    start = time.perf_counter()
    found = lady.check(reference, shuffled.graph)
    seconds = time.perf_counter() - start
    assert found.resync is not None
    truth = invert(Family(groups), shuffled.permutations)
    right = sum(int((found.resync.permutations[g.id] == truth[g.id]).sum()) for g in groups)
    left = 0.0
    for weight in multiplied.weights:
        ours, theirs = (g.array(weight).astype(np.float64) for g in (reference, found.resync.graph))
        left = max(left, float(np.abs(ours - theirs).max() / np.abs(ours).max()))
    psi = 100 * right / sum(g.size for g in groups)
    return f"| {name} | {touched} of {len(groups)} | {found.verdict} | {psi:.2f} | {left:.1g} | {seconds:.1f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--strength", type=float, default=0.5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("models", nargs="*", type=Path)
    args = parser.parse_args()
    print("| model | groups with factors | verdict | Psi | largest difference left | seconds |")
    print("| --- | --- | --- | --- | --- | --- |", flush=True)
    for name, path in {p.stem: p for p in args.models}.items() if args.models else ((n, real.path(n)) for n in real.MODELS):
        print(row(name, path, args.strength, args.seed), flush=True)


if __name__ == "__main__":
    main()
