"""Checkpoints of one architecture as graphs, and graphs written back as checkpoints."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np

from ..dataflow.engine import analyse_graph
from ..errors import LadyError
from ..graph.loading import Model, load_graph
from ..graph.model import Graph
from ..numerics import is_float_array, is_same
from ..symmetry.finder import extract_groups
from .binding import bind_weights
from .files import Checkpoint, read_checkpoint, write_checkpoint

COUNTER = "num_batches_tracked"
"""How the names of tensors end that count the batches of a batch norm's training."""
MEND = "export --like without folding norms; if it is no weight, leave it out with --ignore"
"""What to do about a tensor that no weight is made of."""


@dataclass(frozen=True)
class Bound:
    """A checkpoint as a graph.

    Attributes:
        graph: the graph, with the weights of the checkpoint.
        checkpoint: the checkpoint.
    """

    graph: Graph
    checkpoint: Checkpoint


class Architecture:
    """An export of a network, bound to the tensors of its checkpoints.

    Which tensors a weight is made of is found by the values of one checkpoint, up to another order
    of axes, another shape, and parts that lie beside each other. It holds for all others then.

    Args:
        graph: the export of `like`: a path or a model.
        like: the checkpoint that it is an export of.
        ignored: patterns of tensors that may differ although no weight is made of them, such as
            heads that the export leaves out; `*` stands for any text.

    Raises:
        LadyError: a file cannot be read, or a weight comes from one of several tensors that cannot
            be told apart.

    Attributes:
        graph: the export.
        like: the checkpoint.
        sources: by weight what it is made of.
    """

    def __init__(self, graph: Model, like: str | os.PathLike[str], ignored: Sequence[str] = ()):
        self.graph = load_graph(graph)
        self.like = read_checkpoint(Path(like))
        self._ignored = tuple(ignored)
        slots = [s for g in extract_groups(analyse_graph(self.graph)).groups for s in g.slots]
        needed = sorted({s.initializer for s in slots})
        self._unit_lengths = {self.graph.shape(s.initializer)[s.axis] for s in slots}
        # a weight that reaches no output is compared by nobody
        weights = {n: self.graph.array(n) for n in _list_live_weights(self.graph)}
        try:
            self.sources = bind_weights(weights, self.like.tensors, needed)
            self._free = self._find_free_elements()
            self._check_free_elements()
        except LadyError as error:
            raise LadyError(f"{self.graph.name}, {self.like.path}: {error}") from error

    def _find_free_elements(self) -> dict[str, np.ndarray | None]:
        """Find by tensor the elements that no weight is made of, bool; None where there are none.

        Tensors that no weight is made of are left out.
        """
        free: dict[str, np.ndarray | None] = {}
        for source in self.sources.values():
            for part in source.parts:
                shape = self.like.tensors[part.tensor].shape
                mask = free.setdefault(part.tensor, np.ones(shape, bool))
                if mask is not None:
                    part.view(mask)[...] = False
            for copy in source.copies:
                free[copy] = free[source.parts[0].tensor]
        return {n: m if m is not None and m.any() else None for n, m in free.items()}

    def _check_free_elements(self) -> None:
        """Raise LadyError where what no weight is made of may belong to units that are moved."""
        for name, array in self.like.tensors.items():
            free = self._free.get(name, np.ones(array.shape, bool))
            # tables of whole numbers may count positions, but not along an axis that units lie on
            is_table = not is_float_array(array) and not self._unit_lengths & {*array.shape}
            if free is None or self._is_ignored(name) or is_table:
                continue
            rest = _pick(array, free)
            if rest.size > 1 and (rest != rest[0]).any():
                part = "tensor" if name not in self._free else "a part of tensor"
                raise LadyError(f"{part} '{name}' is in no weight of the graph; {MEND}")

    @property
    def left_out(self) -> list[str]:
        """The tensors that are ignored: no verdict says anything of them."""
        free = (n for n in self.like.tensors if self._free.get(n, True) is not None)
        return [n for n in free if self._is_ignored(n)]

    def load(self, path: str | os.PathLike[str]) -> Bound:
        """Read a checkpoint of this architecture as a graph.

        Raises:
            LadyError: it cannot be read, lacks a tensor, has one of another shape or one more, or
                one that no weight is made of has other values than in `like`.
        """
        checkpoint = read_checkpoint(Path(path))
        self._check_tensors(checkpoint)
        graph = self.graph.copy()
        # messages name the checkpoint, and no result may overwrite it
        graph.path, graph.beside = checkpoint.path, frozenset(checkpoint.files)
        for name, source in self.sources.items():
            old = self.graph.array(name)
            array = source.read(checkpoint.tensors, old.shape)
            taken = np.array(array.astype(old.dtype), order="C")
            if not is_same(taken.astype(array.dtype), np.array(array, order="C")):
                what = f"weight '{name}' has more digits than the graph, which is of {old.dtype}"
                raise LadyError(f"{checkpoint.path}: {what}; export it as {array.dtype}")
            graph.replace(name, taken)
        return Bound(graph, checkpoint)

    def save(
        self,
        graph: Graph,
        like: Checkpoint,
        path: str | os.PathLike[str],
        taken: Collection[Path] = frozenset(),
    ) -> None:
        """Write the weights of a graph as a checkpoint, in the format and the types of another one.

        Args:
            graph: a copy of this architecture's graph.
            like: the checkpoint that gives the format, and the tensors that no weight is made of.
            path: the file to write.
            taken: files that may not be overwritten.

        Raises:
            LadyError: a weight has more digits than its tensor's type, two weights say different
                things of one tensor, or one that comes from no tensor was changed.
            OutputError: the file cannot be written.
        """
        tensors = dict(like.tensors)
        written: dict[str, np.ndarray] = {}
        for name in self._free:
            tensors[name] = np.array(like.tensors[name])
            written[name] = np.zeros(tensors[name].shape, bool)
        for weight in self.graph.tensors:
            # a constant of the graph, such as a table of angles, or what norms were folded into
            if weight not in self.sources and not is_same(
                graph.array(weight), self.graph.array(weight)
            ):
                what = f"weight '{weight}' comes from no tensor, so its units cannot be moved"
                raise LadyError(
                    f"{graph.name}: {what}; leave its group out, or export without folding"
                )
        for weight, source in self.sources.items():
            array = graph.array(weight)
            places = source.list_views(written, array)
            views = source.list_views(tensors, array)
            for (name, view, values), (_, is_known, _) in zip(views, places, strict=True):
                new = values.astype(view.dtype)
                if not np.array_equal(new.astype(values.dtype), values, equal_nan=True):
                    what = (
                        f"tensor '{name}' is of {view.dtype}, which would round weight '{weight}'"
                    )
                    raise LadyError(f"{graph.name}: {what}; give it in the type of the graph")
                if not is_same(view[is_known], new[is_known]):
                    what = f"weights say different things of tensor '{name}'"
                    raise LadyError(f"{graph.name}: {what}; it cannot be written back")
                view[...], is_known[...] = new, True
            for copy in source.copies:
                tensors[copy] = tensors[source.parts[0].tensor]
        write_checkpoint(like, tensors, Path(path), taken)

    def _check_tensors(self, checkpoint: Checkpoint) -> None:
        """Raise LadyError unless a checkpoint is one of this architecture."""
        for place, text in checkpoint.frame.items():
            if text != self.like.frame.get(place):
                what = f"{place} differs from that of {self.like.path}: it may be another network"
                raise LadyError(f"{checkpoint.path}: {what}; export both as ONNX")
        ours, theirs = self.like.tensors, checkpoint.tensors
        for name in [*(n for n in ours if n not in theirs), *(n for n in theirs if n not in ours)]:
            which = checkpoint.path if name in theirs else self.like.path
            if name in self._free or not self._is_ignored(name):
                what = f"only {which} has the tensor '{name}'; another architecture"
                raise LadyError(f"{checkpoint.path}: {what}")
        for name, array in theirs.items():
            old, is_bound = ours.get(name), name in self._free
            if old is None or (self._is_ignored(name) and not is_bound):
                continue
            if array.shape != old.shape:
                what = f"tensor '{name}' has shape {list(array.shape)}, not {list(old.shape)}"
                raise LadyError(f"{checkpoint.path}: {what}; another architecture")
            free = self._free.get(name, np.ones(old.shape, bool))
            # counters of batches are no weights
            is_left_out = self._is_ignored(name) or name.endswith(COUNTER)
            if free is None or is_left_out or is_same(_pick(array, free), _pick(old, free)):
                continue
            part = "a part of tensor" if is_bound else "tensor"
            what = f"{part} '{name}' is in no weight of the graph, and differs from --like"
            raise LadyError(f"{checkpoint.path}: {what}; {MEND}")
        for source in self.sources.values():
            first = source.parts[0].tensor
            for copy in source.copies:
                if not is_same(theirs[first], theirs[copy]):
                    what = f"tensors '{first}' and '{copy}' are one in --like, and differ here"
                    raise LadyError(f"{checkpoint.path}: {what}")

    def _is_ignored(self, name: str) -> bool:
        return any(fnmatchcase(name, pattern) for pattern in self._ignored)


def _list_live_weights(graph: Graph) -> list[str]:
    """List the weights of a graph, those of subgraphs left out, that reach an output."""
    live = {o.name for o in graph.model.graph.output}
    for node in reversed(graph.nodes):
        if live.intersection(node.output):
            live.update(node.input)
            bodies = [a.g for a in node.attribute if a.HasField("g")]
            while bodies:
                body = bodies.pop()
                live.update(o.name for o in body.output)
                for inner in body.node:
                    live.update(inner.input)
                    bodies += [a.g for a in inner.attribute if a.HasField("g")]
    return [n for n in graph.tensors if n in live]


def _pick(array: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return the elements that a mask takes, [elements]; also of a single number."""
    picked: np.ndarray = array.reshape(-1)[mask.reshape(-1)]
    return picked
