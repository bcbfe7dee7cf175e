"""A white-box watermark under shuffles and attacks, as in the paper's Figure 7.

    python benchmarks/watermark.py

With and without re-synchronisation. Prints how well the mark is read, as Pearson's correlation, and
draws benchmarks/watermark.svg. The marked network comes from
`python benchmarks/train.py vgg16-marked`; needs the extras `test` and `bench`.

Source: Uchida et al. 2017, Embedding watermarks into deep neural networks: the mean over a weight's
filters, times a secret matrix, has the signs of the mark's bits.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from scipy.special import expit

sys.path.insert(0, str(Path(__file__).parent.parent))

import lady_onnx as lady
from lady_onnx.graph.loading import load_graph
from lady_onnx.graph.model import Graph
from tests.helpers.real import CACHE

HERE = Path(__file__).parent
MARKED = "vgg16-marked"
WEIGHT = "40.weight"
"""The last convolution of the VGG16."""
BITS = 64
STRENGTHS = {
    "noise": (0, 1, 2, 4, 7, 10),
    "finetune": (2, 4, 6, 8, 10),
    "quantize": (16, 8, 6, 4, 2),
    "prune": (91, 95, 98, 99),
}
WAYS = ("in place", "shuffled", "put back")


def key(size: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """The secret matrix, float32 [bits, size], and the bits, float32 [bits]."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal((BITS, size)).astype(np.float32), rng.integers(0, 2, BITS).astype(
        np.float32
    )


def read(graph: Graph) -> float:
    """How well the mark is read from a network's weight: its answers' correlation with the bits."""
    filters = graph.array(WEIGHT)
    matrix, bits = key(filters[0].size)
    return float(np.corrcoef(expit(matrix @ filters.mean(0).ravel()), bits)[0, 1])


def attacked(graph: Graph, kind: str, strength: float) -> Graph:
    if kind == "finetune":
        return load_graph(CACHE / "trained" / f"{MARKED}-{strength:g}.onnx")
    return lady.attack(
        graph, kind, strength / 100 if kind == "prune" else strength, weights=[WEIGHT], seed=1
    ).graph


def draw(found: dict[str, list[tuple[float, ...]]], path: Path) -> None:
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    matplotlib.rcParams["svg.hashsalt"] = "watermark"
    figure, grid = pyplot.subplots(1, len(found), figsize=(16, 3), sharey=True)
    for (kind, rows), axes in zip(found.items(), grid, strict=True):
        for number, way in enumerate(WAYS):
            style = "-" if way != "put back" else "--"
            axes.plot([row[number] for row in rows], style, marker=".", label=way)
        axes.set(
            title=kind, xticks=range(len(rows)), xticklabels=STRENGTHS[kind], ylim=(-0.5, 1.05)
        )
    grid[0].set_ylabel("correlation of the mark")
    grid[0].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    reference = load_graph(CACHE / "trained" / f"{MARKED}.onnx")
    print(f"| attack | {' | '.join(WAYS)} |\n| --- |{' --- |' * len(WAYS)}")
    found: dict[str, list[tuple[float, ...]]] = {}
    for kind, strengths in STRENGTHS.items():
        for strength in strengths:
            there = attacked(reference, kind, strength)
            shuffled = lady.permute(there, 1).graph
            back = lady.resync(reference, shuffled, verify="none").graph
            row = tuple(read(g) for g in (there, shuffled, back))
            found.setdefault(kind, []).append(row)
            print(
                f"| {kind} {strength:g} | {' | '.join(f'{value:.3f}' for value in row)} |",
                flush=True,
            )
    draw(found, HERE / "watermark.svg")


if __name__ == "__main__":
    main()
