"""Time and memory of the analysis as graphs grow: residual blocks of five nodes, 8,192 wide.

    python benchmarks/scale.py [--nodes 500 1000 2000 5000]

Every weight is an initializer of its own, 8,192 x 8,192, in external data. All of them point at the
same bytes on disk, and the analysis reads no more of them than it needs to see that they are not
constant along an axis. Each size is a process of its own.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

WIDTH = 8192


def grown(folder: Path, nodes: int) -> Path:
    """A chain of blocks: norm, product, activation, product, sum."""
    data = folder / "weights.bin"
    if not data.exists():
        np.random.default_rng(0).standard_normal((WIDTH, WIDTH), np.float32).tofile(data)
    weights: list[TensorProto] = []

    def weight(*shape: int) -> str:
        tensor = TensorProto(
            name=f"w{len(weights)}",
            data_type=TensorProto.FLOAT,
            dims=shape,
            data_location=TensorProto.EXTERNAL,
        )
        for key, value in (
            ("location", data.name),
            ("offset", "0"),
            ("length", str(4 * int(np.prod(shape)))),
        ):
            tensor.external_data.add(key=key, value=value)
        weights.append(tensor)
        return tensor.name

    made = [helper.make_node("MatMul", ["x", weight(16, WIDTH)], ["h0"])]
    for k in range(nodes // 5):
        made += [
            helper.make_node(
                "LayerNormalization", [f"h{k}", weight(WIDTH), weight(WIDTH)], [f"n{k}"], axis=-1
            ),
            helper.make_node("MatMul", [f"n{k}", weight(WIDTH, WIDTH)], [f"a{k}"]),
            helper.make_node("Relu", [f"a{k}"], [f"r{k}"]),
            helper.make_node("MatMul", [f"r{k}", weight(WIDTH, WIDTH)], [f"b{k}"]),
            helper.make_node("Add", [f"h{k}", f"b{k}"], [f"h{k + 1}"]),
        ]
    made.append(helper.make_node("MatMul", [f"h{nodes // 5}", weight(WIDTH, 16)], ["out"]))
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 16])]
    outputs = [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["batch", 16])]
    graph = helper.make_graph(made, "scale", inputs, outputs, weights)
    path = folder / f"{nodes}.onnx"
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path
    )
    return path


def one(path: str) -> None:
    """Prints the figures of one graph: nodes, groups, seconds, and the peak of memory in MB."""
    # from the package, which loads its modules when a name is first asked for: outside of the time
    from lady_onnx import find_groups
    from lady_onnx.graph.loading import load_graph

    graph = load_graph(path)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    symmetry = find_groups(graph)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = f"{len(graph.nodes)} | {len(symmetry.groups)} | {seconds:.2f}"
    print(f"| {found} | {peak / 1024:.0f} | {before / 1024:.0f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--nodes", type=int, nargs="+", default=[500, 1000, 2000, 5000])
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        one(args.one)
        return
    print("| nodes | groups | seconds | peak MB | MB before |")
    print("| --- | --- | --- | --- | --- |", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for nodes in args.nodes:
            path = grown(Path(folder), nodes)
            subprocess.run([sys.executable, __file__, "--one", str(path)], check=True)


if __name__ == "__main__":
    main()
