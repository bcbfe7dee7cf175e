"""Trained models, every unit moved and multiplied at random by factors that cancel.

    python benchmarks/rescale.py [--strength 0.5] [--seed 1] [--besides] [MODEL.onnx ...]

Signs are flipped where that may be. Prints how many groups let factors pass, what `check` says,
Psi, the largest difference from the reference's weights in units of their largest, and seconds.
With `--besides`, it takes models that were also altered, before or after, and prints what `check`
says and how many units it finds multiplied and how many tampered with. The models are read in place
from the packages that ship them; others may be given.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

import lady_onnx as lady
from lady_onnx.diagnosis.findings import TAMPERING
from lady_onnx.graph.loading import load_graph
from lady_onnx.graph.model import Graph
from lady_onnx.groups.permutations import Nesting, invert_permutations
from tests.helpers import real

BESIDES = (
    ("noise", 0.05),
    ("noise", 0.2),
    ("noise", 0.5),
    ("quantize", 8),
    ("quantize", 4),
    ("prune", 0.5),
)


def checked(reference: Graph, suspect: Graph, seed: int) -> tuple[lady.Check, float, float]:
    """The verdict on a shuffled suspect, Psi, and seconds."""
    shuffled = lady.permute(suspect, seed)
    groups = shuffled.symmetry.groups
    start = time.perf_counter()
    found = lady.check(reference, shuffled.graph)
    seconds = time.perf_counter() - start
    assert found.resync is not None
    truth = invert_permutations(Nesting(groups), shuffled.permutations)
    right = sum(int((found.resync.permutations[g.id] == truth[g.id]).sum()) for g in groups)
    return found, 100 * right / sum(g.size for g in groups), seconds


def besides(name: str, path: Path, strength: float, seed: int) -> Iterator[str]:
    """The lines of a model that was altered too."""
    reference = load_graph(path)
    for kind, much in BESIDES:
        for steps in ((("rescale", strength), (kind, much)), ((kind, much), ("rescale", strength))):
            suspect = reference
            for what, how in steps:
                suspect = lady.attack(suspect, what, how, seed=seed).graph
            found, psi, seconds = checked(reference, suspect, seed)
            assert found.resync is not None
            kinds = [f.kind for f in found.resync.integrity]
            counts = f"{kinds.count('rescaled')} | {sum(k in TAMPERING for k in kinds)}"
            done = ", then ".join(f"{what} {how:g}" for what, how in steps)
            yield f"| {name} | {done} | {found.verdict} | {psi:.2f} | {counts} | {seconds:.1f} |"


def row(name: str, path: Path, strength: float, seed: int) -> str:
    """One line of the table."""
    reference = load_graph(path)
    multiplied = lady.attack(reference, "rescale", strength, seed=seed)
    found, psi, seconds = checked(reference, multiplied.graph, seed)
    assert found.resync is not None
    groups = found.resync.symmetry.groups
    touched = sum(
        any(s.initializer in multiplied.weights for s in g.slots)
        for g in groups
        if g.kind != "blocks"
    )
    left = 0.0
    for weight in multiplied.weights:
        ours, theirs = (g.array(weight).astype(np.float64) for g in (reference, found.resync.graph))
        left = max(left, float(np.abs(ours - theirs).max() / np.abs(ours).max()))
    figures = f"{touched} of {len(groups)} | {found.verdict} | {psi:.2f}"
    return f"| {name} | {figures} | {left:.1g} | {seconds:.1f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--strength", type=float, default=0.5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--besides", action="store_true")
    parser.add_argument("models", nargs="*", type=Path)
    args = parser.parse_args()
    models = {p.stem: p for p in args.models} or {n: real.path(n) for n in real.MODELS}
    if args.besides:
        print("| model | done | verdict | Psi | found multiplied | found tampered with | seconds |")
        print("| --- | --- | --- | --- | --- | --- | --- |", flush=True)
        for name, path in models.items():
            for line in besides(name, path, args.strength, args.seed):
                print(line, flush=True)
        return
    print("| model | groups with factors | verdict | Psi | largest difference left | seconds |")
    print("| --- | --- | --- | --- | --- | --- |", flush=True)
    for name, path in models.items():
        print(row(name, path, args.strength, args.seed), flush=True)


if __name__ == "__main__":
    main()
