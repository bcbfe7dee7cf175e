"""Marks that are trained into networks, under attacks, as in the paper's Figure 7 and beyond.

Run by `marks.py trained`. Each marked network is altered, then every unit is shuffled, and
multiplied where that may be. Its mark is read as the altered network stands (alone), after the
shuffle, and once the units are back. What is not shuffled is the measure: putting units back should
leave the errors that the alteration makes by itself.

Source of the protocol: MPAI-NNW, Neural Network Watermarking: missed detections and false alarms
over marked and unmarked networks and their alterations, symbol errors, the quality of the task,
the time to insert and to detect.
"""

from __future__ import annotations

import csv
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import onnx
from lady_onnx.converters.marking import TRAINED_SCHEMES, train_mark
from lady_onnx.converters.pytorch import finetune

import lady_onnx as lady
from benchmarks.train import FASHION, TASKS
from lady_onnx.graph.loading import load_graph
from lady_onnx.graph.model import Graph
from lady_onnx.groups.model import Group
from lady_onnx.runtime.sampling import draw_telling_samples
from lady_onnx.runtime.sessions import open_session, run_sample
from lady_onnx.watermark.embedding import Marked
from lady_onnx.watermark.secrets.keys import Key
from tests.helpers.real import CACHE

HERE = Path(__file__).parent
KEY, PAYLOAD = Key(bytes(31) + b"m"), b"64 bits."
NETWORKS = {
    "vgg16-fashion": TRAINED_SCHEMES,
    "resnet18": TRAINED_SCHEMES,
    "mobilenetv3": ("watermas",),
    "swin": ("watermas",),
    "segmenter": ("watermas",),
}
"""The networks that `train.py` trains, and the schemes of their marks."""
PASSES = {"vgg16-fashion": 0.1, "resnet18": 0.1, "mobilenetv3": 0.3, "swin": 0.3, "segmenter": 0.3}
"""In how many passes over the data a mark is trained in."""
STRENGTHS = {
    "noise": (1, 2, 4, 7, 10),
    "finetune": (2, 4, 6, 8, 10),
    "quantize": (16, 8, 6, 4, 2),
    "prune": (91, 95, 98, 99),
}
"""Those of Figure 7: deviations, percent of the training's steps, bits, percent of zeros."""
SYMMETRIES = ("none", "rescaled", "idle units")
"""What is done besides the shuffle: nothing, factors and signs, a unit more in every group."""
SPREAD = 0.5
"""The strength of factors."""
WAYS = ("alone", "shuffled", "put_back")


@dataclass(frozen=True)
class Row:
    """One alteration of one marked network.

    Attributes:
        network, scheme: of the mark.
        alteration, strength: what was done.
        metric: how well the task is done after it: accuracy, or mean intersection over union.
        bits: how many were written.
        alone, shuffled, put_back: how many are wrong.
        alone_r, shuffled_r, put_back_r: Pearson's correlation of what is read with the bits.
        read: whether the payload is read after the shuffle.
        false_alarm: whether a payload is read from the network without the mark, altered alike; by
            the weakest strength of each attack alone, and without training.
        seconds: of reading with a reference.
    """

    network: str
    scheme: str
    alteration: str
    strength: float
    metric: float
    bits: int
    alone: int
    shuffled: int
    put_back: int
    alone_r: float
    shuffled_r: float
    put_back_r: float
    read: bool
    false_alarm: bool | None
    seconds: float


def measure_trained(names: Sequence[str]) -> None:
    """Marks the networks, alters them, and prints the tables; draws where all are measured."""
    rows: list[Row] = []
    costs: list[str] = []
    for name in names or NETWORKS:
        network = Network(name)
        for scheme in NETWORKS[name]:
            start = time.perf_counter()
            marked = network.mark(scheme)
            seconds = time.perf_counter() - start
            figures = f"{network.measure(network.graph):.2%} | {network.measure(marked.graph):.2%}"
            costs.append(f"| {name} | {scheme} | {marked.bits} | {figures} | {seconds:.0f} |")
            for row in network.alter(scheme, marked):
                rows.append(row)
                print(row, flush=True)
    print("\n| network | scheme | bits | metric before | with the mark | seconds to train it in |")
    print("| --- " * 6 + "|")
    print("\n".join(costs))
    print_errors(rows)
    print_protocol(rows)
    if not names:
        _write_rows(rows)
        draw(rows, HERE / "marks.svg")


class Network:
    """A trained network, with its data."""

    def __init__(self, name: str):
        self.name, self.task = name, TASKS[name]
        self.graph = load_graph(CACHE / "trained" / f"{name}.onnx")
        images, labels = self.task.read(FASHION, self.task.size, "train")
        count = self.task.samples
        self.data = {"input0": images[:count].numpy(), "labels": labels[:count].numpy()}
        with np.load(CACHE / "trained" / f"{name}.npz") as held:
            self.held = dict(held)

    def mark(self, scheme: str) -> Marked:
        """Trains a mark into it."""
        return train_mark(self.graph, KEY, PAYLOAD, self.data, PASSES[self.name], scheme=scheme)

    def measure(self, graph: Graph) -> float:
        """Measures how well a copy does the task on samples that it has not learned."""
        session, found = open_session(graph), []
        for k in range(0, len(self.held["labels"]), 100):
            found.append(session.run(None, {"input0": self.held["input0"][k : k + 100]})[0])
        classes, labels = np.concatenate(found).argmax(1), self.held["labels"]
        if labels.ndim == 1:
            return float((classes == labels).mean())
        both = [
            (((classes == c) & (labels == c)).sum(), ((classes == c) | (labels == c)).sum())
            for c in range(int(labels.max()) + 1)
        ]
        return float(np.mean([x / y for x, y in both]))

    def alter(self, scheme: str, marked: Marked) -> Iterator[Row]:
        """Alters the marked network and the unmarked one alike, and reads both."""
        layers = [layer.name for layer in marked.mark.layers]
        for what in SYMMETRIES:
            yield self._read(scheme, marked, what, 0, marked.graph, self.graph, what)
        for kind, strengths in STRENGTHS.items():
            if kind == "finetune":
                continue
            for k, strength in enumerate(strengths):
                share = strength / 100 if kind == "prune" else float(strength)
                altered, unmarked = (
                    lady.attack(g, kind, share, weights=layers, seed=1).graph
                    for g in (marked.graph, self.graph)
                )
                other = None if k else unmarked
                yield self._read(scheme, marked, kind, strength, altered, other)
        tuned, before = marked.graph, 0
        for strength in STRENGTHS["finetune"]:
            # on from the weaker strength
            passes = (strength - before) / 100 * self.task.epochs
            tuned, before = finetune(tuned, self.data, passes, seed=strength).graph, strength
            yield self._read(scheme, marked, "finetune", strength, tuned, None)

    def _read(
        self,
        scheme: str,
        marked: Marked,
        what: str,
        strength: float,
        altered: Graph,
        unmarked: Graph | None,
        symmetry: str = "none",
    ) -> Row:
        start = time.perf_counter()
        found = lady.extract_mark(
            _shuffle(altered, symmetry), KEY, marked.mark, reference=marked.graph
        )
        seconds = time.perf_counter() - start
        false_alarm = None
        if unmarked is not None:
            shuffled = _shuffle(unmarked, symmetry)
            other = lady.extract_mark(shuffled, KEY, marked.mark, reference=marked.graph)
            false_alarm = other.payload is not None
        alone = lady.extract_mark(altered, KEY, marked.mark).as_it_stands
        moved, back = found.as_it_stands, found.put_back
        assert back is not None, found.refusal
        return Row(
            self.name,
            scheme,
            what,
            strength,
            self.measure(altered),
            alone.bits,
            *(r.wrong for r in (alone, moved, back)),
            *(round(r.correlation, 4) for r in (alone, moved, back)),
            found.payload == PAYLOAD,
            false_alarm,
            round(seconds, 2),
        )


def _shuffle(graph: Graph, symmetry: str) -> Graph:
    """Shuffles every unit, after what else the symmetry allows."""
    if symmetry == "rescaled":
        graph = lady.attack(graph, "rescale", SPREAD, seed=2).graph
    if symmetry == "idle units":
        graph = _add_idle_units(graph)
    return lady.permute(graph, 3).graph


def _add_idle_units(graph: Graph) -> Graph:
    """Adds a copy of its last unit to every group, which nothing reads; where outputs stay."""
    (sample,) = draw_telling_samples(graph, open_session(graph), 1, 0)
    before = run_sample(open_session(graph), graph, sample)
    for group in lady.find_groups(graph).groups:
        wider = _add_idle_unit(graph, group)
        if wider is None:
            continue
        try:
            after = run_sample(open_session(wider), wider, sample)
        except lady.LadyError:  # a layer norm, or a number of groups, counts the units
            continue
        if all(np.allclose(*o, rtol=1e-4, atol=1e-4) for o in zip(before, after, strict=True)):
            graph = wider
    return graph


def _add_idle_unit(graph: Graph, group: Group) -> Graph | None:
    """Adds a unit to a group whose units lie one after the other in all weights; else None."""
    arrays = {slot.initializer: graph.array(slot.initializer) for slot in group.slots}
    for slot in group.slots:
        array, axis = arrays[slot.initializer], slot.axis
        length = slot.index.shape[1]
        if slot.within or not np.array_equal(slot.index.ravel(), np.arange(array.shape[axis])):
            return None
        unit = np.take(array, range(array.shape[axis] - length, array.shape[axis]), axis)
        is_read = array.ndim > 1 and axis == 1
        arrays[slot.initializer] = np.concatenate([array, 0 * unit if is_read else unit], axis)
    result = onnx.ModelProto()
    result.CopyFrom(graph.to_model(""))
    for tensor in result.graph.initializer:
        if tensor.name in arrays:
            tensor.CopyFrom(onnx.numpy_helper.from_array(arrays[tensor.name], tensor.name))
    return load_graph(result)


def print_errors(rows: Sequence[Row]) -> None:
    """Prints the wrong bits alone, shuffled and put back, a column for each mark."""
    table: dict[tuple[str, float], dict[tuple[str, str], Row]] = defaultdict(dict)
    for row in rows:
        table[row.alteration, row.strength][row.network, row.scheme] = row
    marks = list(dict.fromkeys((r.network, r.scheme) for r in rows))
    print("\nWrong bits alone / shuffled / put back, and the metric:\n")
    print(f"| alteration | {' | '.join(f'{n}, {s}' for n, s in marks)} |")
    print("| --- " * (1 + len(marks)) + "|")
    for (what, strength), found in table.items():
        cells = [
            f"{r.alone} / {r.shuffled} / {r.put_back}, {r.metric:.1%}"
            for r in (found[m] for m in marks)
        ]
        named = f"{what} {strength:g}" if strength else what
        print(f"| {named} | {' | '.join(cells)} |")


def print_protocol(rows: Sequence[Row]) -> None:
    """Prints what MPAI-NNW asks for."""
    kinds: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        kinds[row.scheme, row.alteration].append(row)
    print("\n| scheme | alteration | networks | missed | false alarms | bit errors | seconds |")
    print("| --- " * 7 + "|")
    for (scheme, what), found in sorted(kinds.items()):
        missed, tested = sum(not r.read for r in found), [r.false_alarm for r in found]
        false = f"{sum(map(bool, tested))} of {sum(t is not None for t in tested)}"
        errors = np.mean([r.put_back / r.bits for r in found])
        seconds = np.median([r.seconds for r in found])
        figures = f"{len(found)} | {missed} | {false} | {errors:.1%} | {seconds:.1f}"
        print(f"| {scheme} | {what} | {figures} |")


def _write_rows(rows: Sequence[Row]) -> None:
    with (HERE / "marks.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, [f.name for f in fields(Row)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(r) for r in rows)


def draw(rows: Sequence[Row], path: Path) -> None:
    """Draws the correlation of every mark against the strength of each attack."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    matplotlib.rcParams["svg.hashsalt"] = "marks"
    marks = list(dict.fromkeys((r.network, r.scheme) for r in rows))
    figure, grid = pyplot.subplots(
        len(marks), len(STRENGTHS), figsize=(12, 1.8 * len(marks)), sharey=True
    )
    for line, mark in zip(grid, marks, strict=True):
        for axes, (kind, strengths) in zip(line, STRENGTHS.items(), strict=True):
            own = [r for r in rows if (r.network, r.scheme, r.alteration) == (*mark, kind)]
            for way in WAYS:
                values = [getattr(r, f"{way}_r") for r in own]
                style = "--" if way == "put_back" else "-"
                axes.plot(values, style, marker=".", label=way.replace("_", " "))
            axes.set(xticks=range(len(strengths)), xticklabels=strengths, ylim=(-0.3, 1.05))
            axes.set_title(f"{', '.join(mark)}: {kind}", fontsize=8)
            axes.tick_params(labelsize=7)
    grid[0][0].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
