"""Units put back under Gaussian noise on every tensor that a group touches, on trained models.

    python benchmarks/noise.py [--levels 0 0.1 0.5 1 2] [--seed 1]

Prints Psi, the percent of units back in their place. The models are read in place from the packages that ship them.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

import lady_onnx as lady
from lady_onnx.graph import load
from lady_onnx.rewrite import Family, invert
from tests import real


def psi(path: Path, level: float, seed: int) -> float:
    """Percent of the units of all groups that are put back, after a shuffle and noise of `level` deviations."""
    reference = load(path)
    shuffled = lady.permute(reference, seed)
    groups = shuffled.symmetry.groups
    rng = np.random.default_rng(seed)
    for name in sorted({s.initializer for g in groups for s in g.slots}):
        array = shuffled.graph.array(name)
        noise = level * array.std() * rng.standard_normal(array.shape)
        shuffled.graph.replace(name, (array + noise).astype(array.dtype))
    found = lady.resync(reference, shuffled.graph, verify="none").permutations
    truth = invert(Family(groups), shuffled.permutations)
    right = sum(int((found[g.id] == truth[g.id]).sum()) for g in groups)
    return 100 * right / sum(g.size for g in groups)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--levels", type=float, nargs="+", default=[0, 0.1, 0.5, 1, 2])
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    print(f"| model | {' | '.join(f'{level:g}' for level in args.levels)} |")
    print("| --- |" + " --- |" * len(args.levels))
    for name in real.MODELS:
        figures = (f"{psi(real.path(name), level, args.seed):.2f}" for level in args.levels)
        print(f"| {name} | {' | '.join(figures)} |", flush=True)


if __name__ == "__main__":
    main()
