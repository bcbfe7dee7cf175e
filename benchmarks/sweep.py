"""The law and exact re-synchronisation on every model at hand.

    python benchmarks/sweep.py [--seeds 5] [NAME ...]

The models are nine untrained classics, and trained ones inside packages. The nine `light_*.onnx`
files that ship with onnx have no weights; they get random ones. Prints for each model its groups,
its symmetry bits, the share of parameters that at least one group touches, what is pinned and why,
the seconds that `find_groups` took, and whether for every seed a permuted copy computes the same
and comes back bit for bit.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, numpy_helper

sys.path.insert(0, str(Path(__file__).parent.parent))

import lady_onnx as lady
from lady_onnx.graph.loading import load_graph
from lady_onnx.groups.model import Symmetry
from tests.helpers import real

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"


def randomised(path: Path) -> ModelProto:
    """A light model with random weights for its constants, scaled so that nothing explodes."""
    model = onnx.load(path)
    shapes = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    generator = np.random.default_rng(0)
    kept = []
    positive = {
        i for n in model.graph.node if n.op_type == "BatchNormalization" for i in n.input[4:5]
    }
    for node in model.graph.node:
        if node.op_type != "ConstantOfShape" or node.input[0] not in shapes:
            kept.append(node)
            continue
        shape = shapes[node.input[0]]
        spread = np.prod(shape[1:]) ** -0.5 if shape.size > 1 else 0.3
        values = spread * generator.standard_normal(shape) + (0.0 if shape.size > 1 else 0.5)
        values = np.abs(values) + 0.1 if node.output[0] in positive else values
        model.graph.initializer.append(
            numpy_helper.from_array(values.astype(np.float32), node.output[0])
        )
    del model.graph.node[:]
    model.graph.node.extend(kept)
    return model


def models() -> Iterator[tuple[str, str | Path | ModelProto]]:
    for path in sorted(LIGHT.glob("light_*.onnx")):
        yield path.stem, randomised(path)
    for name in real.MODELS:
        yield name, real.path(name)


def touched(symmetry: Symmetry, model: str | Path | ModelProto) -> float:
    """The share of all parameters that at least one group moves."""
    graph = load_graph(model)
    total = moved = 0
    for name in graph.tensors:
        shape = graph.shape(name)
        if graph.tensors[name].data_type not in (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16):
            continue
        mask = np.zeros(shape, bool)
        for group in symmetry.groups:
            for slot in group.slots:
                if slot.initializer == name:
                    mask[slot.region(shape)] = True
        total += mask.size
        moved += int(mask.sum())
    return moved / max(total, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("names", nargs="*")
    args = parser.parse_args()
    print(
        "| model | groups | symmetry bits | parameters touched | law | exact | seconds | pinned |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for name, model in models():
        if args.names and name not in args.names:
            continue
        graph = load_graph(model)
        start = time.perf_counter()
        symmetry = lady.find_groups(graph)
        seconds = time.perf_counter() - start
        law = exact = 0
        for seed in range(1, args.seeds + 1) if symmetry.groups else ():
            shuffled = lady.permute(graph, seed).graph
            law += lady.verify(graph, shuffled, data=real.inputs(name)).equal
            exact += lady.resync(graph, shuffled, verify="none").exact
        pins = "; ".join(
            f"{reason} ({n})"
            for reason, n in Counter(p.reason for p in symmetry.pinned).most_common(4)
        )
        share = f"{100 * touched(symmetry, graph):.1f} %"
        figures = f"{len(symmetry.groups)} | {symmetry.symmetry_bits:.0f} | {share}"
        kept = f"{law} of {args.seeds} | {exact} of {args.seeds}"
        print(f"| {name} | {figures} | {kept} | {seconds:.2f} | {pins} |", flush=True)


if __name__ == "__main__":
    main()
