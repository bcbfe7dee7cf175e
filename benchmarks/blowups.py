"""Time and memory of structures whose analysis or matching could cost more than they are worth.

    python benchmarks/blowups.py [--only TEXT] [--seconds 120] [--megabytes 6000] [--package FOLDER]

Every case is built in one process and run in another, which has a limit on its time and its
memory. CPU seconds are those of the job. Memory is the peak of the whole process; importing what is
needed takes 120 to 200 MB of it. `--package` is the folder of another version, to compare with.
"""

from __future__ import annotations

import argparse
import itertools
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

SEED = 5
OPSET = 17


class Net:
    """A model that grows node by node."""

    def __init__(self, *shape: int):
        self.shape = shape
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.rng = np.random.default_rng(SEED)

    def weight(self, *shape: int) -> str:
        """A random weight."""
        values = self.rng.standard_normal(shape, np.float32) / max(shape[-1], 1) ** 0.5
        return self.constant(values.astype(np.float32))

    def constant(self, values: np.ndarray | list[int]) -> str:
        """A given weight; a list is one of integers."""
        array = np.array(values, np.int64) if isinstance(values, list) else values
        self.weights.append(numpy_helper.from_array(array, f"w{len(self.weights)}"))
        return self.weights[-1].name

    def node(self, op: str, *names: str, count: int = 1, **attributes: object) -> str:
        """The first result of a node."""
        made = [f"t{len(self.nodes)}_{k}" for k in range(count)]
        self.nodes.append(helper.make_node(op, list(names), made, **attributes))
        return made[0]

    def model(self, result: str) -> onnx.ModelProto:
        """The model that gives one result."""
        given = [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, self.shape)]
        taken = [helper.make_tensor_value_info(result, onnx.TensorProto.FLOAT, None)]
        graph = helper.make_graph(self.nodes, "blowup", given, taken, self.weights)
        return helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8
        )


def mlp(*widths: int) -> onnx.ModelProto:
    """Linear layers with ReLU between them."""
    net, name = Net(1, widths[0]), "x"
    for k, (i, o) in enumerate(itertools.pairwise(widths)):
        name = net.node("Gemm", name, net.weight(o, i), net.weight(o), transB=1)
        name = net.node("Relu", name) if k < len(widths) - 2 else name
    return net.model(name)


def reshaped(channels: int, tail: str, side: int = 1024) -> onnx.ModelProto:
    """A map that is flattened, and reshaped to a square that mixes channels and places."""
    pixels = side * side // channels
    height = 1 << (pixels.bit_length() - 1) // 2
    net = Net(1, 1, height, pixels // height)
    flat = net.node("Flatten", net.node("Conv", "x", net.weight(channels, 1, 1, 1)))
    square = net.node("Reshape", flat, net.constant([side, side]))
    if tail == "norm":
        square = net.node("LayerNormalization", square, net.weight(side), axis=-1)
    if tail == "turned":
        square = net.node("Add", square, net.node("Transpose", square, perm=[1, 0]))
    return net.model(square if tail == "turned" else net.node("Gemm", square, net.weight(side, 1)))


def expanded() -> onnx.ModelProto:
    """A row that is expanded to a large square."""
    net = Net(1, 8)
    wide = net.node(
        "Expand", net.node("Gemm", "x", net.weight(8, 1024)), net.constant([4096, 1024])
    )
    return net.model(net.node("MatMul", wide, net.weight(1024, 4)))


def concatenated() -> onnx.ModelProto:
    """A thousand parts side by side."""
    net = Net(1, 8)
    parts = [net.node("Relu", net.node("Gemm", "x", net.weight(8, 4))) for _ in range(1000)]
    return net.model(net.node("Gemm", net.node("Concat", *parts, axis=1), net.weight(4000, 2)))


def divided() -> onnx.ModelProto:
    """A layer split into a thousand parts, of which half are summed with the other half."""
    net = Net(1, 8)
    first = net.node("Split", net.node("Gemm", "x", net.weight(8, 4000)), count=1000, axis=1)
    parts = [f"{first.rpartition('_')[0]}_{k}" for k in range(1000)]
    sums = [net.node("Add", a, b) for a, b in zip(parts[:500], parts[500:], strict=True)]
    return net.model(net.node("Gemm", net.node("Concat", *sums, axis=1), net.weight(2000, 2)))


def gathered() -> onnx.ModelProto:
    """A long constant index that reorders units, and takes some of them twice."""
    net = Net(1, 8)
    index = net.constant(net.rng.integers(0, 8192, 16384).tolist())
    units = net.node("Gather", net.node("Gemm", "x", net.weight(8, 8192)), index, axis=1)
    return net.model(net.node("Gemm", units, net.weight(16384, 2)))


def stacked() -> onnx.ModelProto:
    """Five hundred equal layers."""
    return mlp(8, *[16] * 500, 2)


def experts() -> onnx.ModelProto:
    """Attention heads inside experts: an order of experts, of heads in each, of dimensions."""
    net = Net(8, 8, 32, 32)
    hidden = net.node("MatMul", "x", net.weight(8, 8, 32, 32))
    scores = net.node(
        "Softmax",
        net.node("MatMul", hidden, net.node("Transpose", hidden, perm=[0, 1, 3, 2])),
        axis=-1,
    )
    mixed = net.node("MatMul", net.node("MatMul", scores, hidden), net.weight(8, 8, 32, 16))
    return net.model(net.node("ReduceSum", mixed, net.constant([0, 1]), keepdims=0))


Cases = dict[str, tuple[Callable[[], onnx.ModelProto], str, tuple[str, float] | None]]
CASES: Cases = {
    "Conv, Flatten, Reshape, Gemm; 4,096 channels": (
        lambda: reshaped(4096, "gemm"),
        "groups",
        None,
    ),
    "the same with a LayerNormalization": (lambda: reshaped(4096, "norm"), "groups", None),
    "Conv, Flatten, Reshape + its transpose": (lambda: reshaped(4096, "turned"), "groups", None),
    "the same, 16 channels": (lambda: reshaped(16, "turned"), "groups", None),
    "Expand to 4,096 x 1,024": (expanded, "groups", None),
    "Concat of 1,000 parts": (concatenated, "groups", None),
    "Split in 1,000 parts": (divided, "groups", None),
    "Gather of 16,384 units": (gathered, "groups", None),
    "500 equal layers": (stacked, "groups", None),
    "8 experts of 8 heads": (experts, "groups", None),
    "500 equal layers, permuted": (stacked, "resync", None),
    "MLP 2-4000-2, permuted": (lambda: mlp(2, 4000, 2), "resync", None),
    "MLP 2-4000-2, noise 0.1": (lambda: mlp(2, 4000, 2), "resync", ("noise", 0.1)),
    "MLP 2-4000-2, 8 bits": (lambda: mlp(2, 4000, 2), "resync", ("quantize", 8)),
    "MLP 2-4000-2, factors": (lambda: mlp(2, 4000, 2), "resync", ("rescale", 0.5)),
    "MLP 64-4000-8, noise 0.1": (lambda: mlp(64, 4000, 8), "resync", ("noise", 0.1)),
    "MLP 16-20000-4, permuted": (lambda: mlp(16, 20000, 4), "resync", None),
}
"""What is built, what is done with it, and what was done to the copy before it was permuted."""


def build(name: str, folder: Path) -> None:
    """Writes the models of a case."""
    import lady_onnx as lady

    make, job, attack = CASES[name]
    model = make()
    onnx.save(model, folder / "reference.onnx")
    if job == "resync":
        copy = lady.attack(model, *attack, seed=SEED).model if attack else model
        lady.permute(copy, seed=SEED).save(folder / "suspect.onnx")


def run(name: str, folder: Path) -> None:
    """Prints what a case takes, and what came of it."""
    import lady_onnx as lady

    start = time.process_time()
    if CASES[name][1] == "groups":
        symmetry = lady.find_groups(folder / "reference.onnx")
        found = f"{len(symmetry.groups)} groups, {symmetry.symmetry_bits:.0f} bits"
    else:
        result = lady.resync(folder / "reference.onnx", folder / "suspect.onnx", verify="none")
        found = f"psi {result.psi_estimate:.2f} % (estimate)"
    seconds = time.process_time() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{seconds:.2f} | {peak:.0f} | {found}")


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--only", default="", help="cases whose names hold this")
    parser.add_argument("--seconds", type=int, default=120, help="of CPU time for each case")
    parser.add_argument(
        "--megabytes", type=int, default=6000, help="of address space for each case"
    )
    parser.add_argument(
        "--package", type=Path, default=Path(__file__).parents[1], help="the folder of the package"
    )
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        what, name, folder = args.child
        (build if what == "build" else run)(name, Path(folder))
        return

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_CPU, (args.seconds, args.seconds))
        resource.setrlimit(resource.RLIMIT_AS, (args.megabytes << 20, args.megabytes << 20))

    environment = {**os.environ, "PYTHONPATH": str(args.package), "OMP_NUM_THREADS": "1"}
    print("| structure | CPU seconds | peak MB | result |")
    print("| --- | --- | --- | --- |", flush=True)
    for name in (n for n in CASES if args.only in n):
        with tempfile.TemporaryDirectory() as folder:
            child = [sys.executable, __file__, "--child"]
            subprocess.run([*child, "build", name, folder], check=True, env=environment)
            done = subprocess.run(
                [*child, "run", name, folder],
                env=environment,
                preexec_fn=limited,
                capture_output=True,
                text=True,
            )
            reason = (done.stderr.strip().splitlines() or [f"ended by signal {-done.returncode}"])[
                -1
            ]
            print(f"| {name} | {done.stdout.strip() or f'- | - | {reason}'} |", flush=True)


if __name__ == "__main__":
    main()
