"""The law and exact re-synchronisation on every model at hand.

    python benchmarks/sweep.py [--seeds 5] [NAME ...] [--models PATH ...]

The models are files and folders of them, such as `exporters.py` fills. Without any they are nine
untrained classics, and trained ones inside packages. The nine `light_*.onnx` files that ship with
onnx have no weights; they get random ones. Prints for each model its groups, its symmetry bits,
the share of parameters that at least one group touches, whether for every seed a permuted copy
computes the same and comes back bit for bit, the seconds that `find_groups` took, and what is
pinned and why, first how much of it for want of a rule or of a shape.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, numpy_helper

sys.path.insert(0, str(Path(__file__).parent.parent))

import lady_onnx as lady
from lady_onnx.graph.loading import load_graph
from lady_onnx.groups.model import Symmetry
from tests.helpers import real

WANTS = ("no rule", "unknown", "cannot be computed", "where the rule has")
"""Words of the reasons for pins that a rule or a shape would take away."""
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


def list_models(given: Sequence[Path]) -> Iterator[tuple[str, str | Path | ModelProto]]:
    """The files and those in the folders that are given; without any, what is at hand."""
    for path in given:
        for file in sorted(path.glob("*.onnx")) if path.is_dir() else [path]:
            yield file.stem, file
    if given:
        return
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


@dataclass
class Row:
    """What is printed of one model."""

    name: str
    groups: int = 0
    bits: float = 0.0
    share: float = 0.0
    law: str = "-"
    exact: str = "-"
    seconds: float = 0.0
    pins: Counter[str] = field(default_factory=Counter)

    @property
    def wants(self) -> int:
        """How many parts of weights are pinned for want of a rule or of a shape."""
        return sum(n for reason, n in self.pins.items() if any(w in reason for w in WANTS))

    def write(self) -> str:
        shown = "; ".join(f"{reason} ({n})" for reason, n in self.pins.most_common(4))
        found = f"{self.groups} | {self.bits:.0f} | {100 * self.share:.1f} %"
        kept = f"{self.law} | {self.exact} | {self.seconds:.2f}"
        return f"| {self.name} | {found} | {kept} | {self.wants} | {shown} |"


def measure(name: str, model: str | Path | ModelProto, seeds: int) -> Row:
    """Find the groups of a model, shuffle them, and put them back."""
    row = Row(name)
    try:
        graph = load_graph(model)
        start = time.perf_counter()
        symmetry = lady.find_groups(graph)
    except lady.LadyError as error:
        row.law = f"refused: {error}"
        return row
    row.seconds = time.perf_counter() - start
    row.groups, row.bits = len(symmetry.groups), symmetry.symmetry_bits
    row.share = touched(symmetry, graph)
    row.pins = Counter(p.reason for p in symmetry.pinned)
    if not symmetry.groups:
        return row
    law = exact = 0
    runs = True
    for seed in range(1, seeds + 1):
        shuffled = lady.permute(graph, seed).graph
        exact += lady.resync(graph, shuffled, verify="none").exact
        try:
            law += runs and lady.verify(graph, shuffled, data=real.inputs(name)).equal
        except lady.LadyError:
            runs = False
    row.law = f"{law} of {seeds}" if runs else "does not run"
    row.exact = f"{exact} of {seeds}"
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--models", type=Path, nargs="+", default=(), metavar="PATH")
    parser.add_argument("names", nargs="*")
    args = parser.parse_args()
    columns = (
        *("model", "groups", "symmetry bits", "parameters touched", "law", "exact", "seconds"),
        *("pinned for want", "pinned"),
    )
    print("|", " | ".join(columns), "|")
    print("|", " | ".join("---" for _ in columns), "|")
    rows = []
    for name, model in list_models(args.models):
        if args.names and name not in args.names:
            continue
        rows.append(measure(name, model, args.seeds))
        print(rows[-1].write(), flush=True)
    total = f"{sum(r.groups for r in rows)} | {sum(r.bits for r in rows):.0f}"
    seconds = f"{sum(r.seconds for r in rows):.2f}"
    print(f"| all {len(rows)} | {total} | | | | {seconds} | {sum(r.wants for r in rows)} | |")


if __name__ == "__main__":
    main()
