"""Which tensors of a checkpoint each weight of a graph is made of, found by their values.

A weight is one tensor, or parts of several beside each other, with axes in another order and laid
out in another shape. What is found from one checkpoint and an export of it holds for every
checkpoint of that architecture.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..errors import LadyError
from ..numerics import hash_values, is_float_array

MAX_AXES = 5
"""Tensors of more axes are found in the order of their axes alone."""
MIN_VALUES, MIN_PART_VALUES = 3, 8
"""A weight of fewer different values is told from others by its name alone, and not by parts."""
LOOKED_AT = 1000
"""So many elements tell how many different values there are."""
MAX_STARTS = 64
"""So many places are tried at which a part may begin in one tensor."""


@dataclass(frozen=True)
class Part:
    """A part of a weight, as a checkpoint has it.

    Attributes:
        tensor: the name of the tensor.
        axes: the order in which the axes of the tensor stand in the weight.
        start, stop: the positions that are taken along the first of these axes.
    """

    tensor: str
    axes: tuple[int, ...]
    start: int
    stop: int

    def view(self, array: np.ndarray) -> np.ndarray:
        """Return what the part takes of its tensor, a view."""
        turned = array.transpose(self.axes)
        return turned[self.start : self.stop] if turned.ndim else turned


@dataclass(frozen=True)
class Source:
    """What a weight is made of.

    Attributes:
        parts: the parts, beside each other along an axis of the weight.
        axis: that axis, 0 or 1.
        copies: tensors besides that hold the same values as the only part, such as tied ones.
    """

    parts: tuple[Part, ...]
    axis: int = 0
    copies: tuple[str, ...] = ()

    def read(self, tensors: Mapping[str, np.ndarray], shape: Sequence[int]) -> np.ndarray:
        """Return the weight, of a shape, that tensors hold."""
        if len(self.parts) == 1 and not self.axis:
            return self.parts[0].view(tensors[self.parts[0].tensor]).reshape(shape)
        turned = [shape[self.axis], *(n for a, n in enumerate(shape) if a != self.axis)]
        rows = [p.view(tensors[p.tensor]) for p in self.parts]
        joined = np.concatenate([r.reshape(len(r), *turned[1:]) for r in rows])
        return np.moveaxis(joined, 0, self.axis)

    def list_views(
        self, tensors: Mapping[str, np.ndarray], array: np.ndarray
    ) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
        """Yield for every part its tensor, the view of it that it takes, and the weight's values.

        Args:
            tensors: the tensors, to be written to.
            array: the weight.
        """
        turned, done = np.moveaxis(array, self.axis, 0) if self.axis else array, 0
        is_whole = len(self.parts) == 1 and not self.axis
        for part in self.parts:
            view = part.view(tensors[part.tensor])
            values = turned if is_whole else turned[done : done + len(view)]
            yield part.tensor, view, values.reshape(view.shape)
            done += part.stop - part.start


def bind_weights(
    weights: Mapping[str, np.ndarray], tensors: Mapping[str, np.ndarray], needed: Sequence[str]
) -> dict[str, Source]:
    """Find what the weights of a graph are made of.

    Args:
        weights: the weights by name.
        tensors: those of the checkpoint that the graph is an export of.
        needed: the weights that may not be constants of the graph where some tensor may be theirs.

    Returns:
        By weight what it is made of; weights that come from no tensor are left out.

    Raises:
        LadyError: a weight that is needed comes from one of several tensors that cannot be told
            apart.
    """
    finder = _Finder(tensors)
    found: dict[str, Source] = {}
    for name, array in weights.items():
        if not is_float_array(array) or not array.size:
            continue
        source = finder.find(name, array, name in needed)
        if source is not None:
            found[name] = source
    for name in finder.list_doubtful(found):
        if name in needed:
            raise finder.explain_doubt(name)
        del found[name]
    # what a weight of its own is made of is no copy of another one
    own = {part.tensor for source in found.values() for part in source.parts}
    return {
        n: replace(s, copies=tuple(c for c in s.copies if c not in own)) for n, s in found.items()
    }


class _Finder:
    """Finds weights among the tensors of a checkpoint."""

    def __init__(self, tensors: Mapping[str, np.ndarray]):
        self._tensors = {n: a for n, a in tensors.items() if is_float_array(a) and a.size}
        self._by_values: dict[np.dtype, dict[tuple[int, int], list[str]]] = {}
        self._rivals: dict[str, list[str]] = {}

    def find(self, name: str, array: np.ndarray, is_needed: bool) -> Source | None:
        """Find what a weight is made of; None where nothing holds its values."""
        whole = list(self._list_wholes(array))
        if whole:
            return self._choose(name, whole, _has_values(array, MIN_VALUES), is_needed)
        # numbers such as an epsilon are found in many tensors
        return self._find_parts(array) if _has_values(array) else None

    def _take(self, tensor: str, dtype: np.dtype) -> np.ndarray:
        """Return a tensor in the type of the graph's weights."""
        array = self._tensors[tensor]
        return array if array.dtype == dtype else array.astype(dtype)

    def _list_wholes(self, array: np.ndarray) -> Iterator[Part]:
        """List the tensors that hold all values of a weight, in any order of their axes."""
        if array.dtype not in self._by_values:
            table = self._by_values[array.dtype] = {}
            for name in self._tensors:
                taken = self._take(name, array.dtype)
                table.setdefault((taken.size, hash_values(taken)), []).append(name)
        flat = array.ravel()
        for name in self._by_values[array.dtype].get((array.size, hash_values(array)), []):
            taken = self._take(name, array.dtype)
            for axes in _list_orders(taken.shape):
                if np.array_equal(taken.transpose(axes).ravel(), flat):
                    yield Part(name, axes, 0, taken.shape[axes[0]] if axes else 1)

    def _choose(
        self, name: str, parts: Sequence[Part], has_values: bool, is_needed: bool
    ) -> Source | None:
        """Choose among tensors with the same values."""
        alike = [p for p in parts if p.tensor == name] or [
            p for p in parts if name.endswith(f".{p.tensor}") or p.tensor.endswith(f".{name}")
        ]
        first = (alike or parts)[0]
        if has_values:
            if sum(p.tensor == first.tensor for p in parts) > 1:
                what = f"tensor '{first.tensor}' is weight '{name}' in two orders of its axes"
                raise LadyError(f"{what}; give --like a checkpoint that was trained")
            # one tensor, which may be saved under several names
            shape = self._tensors[first.tensor].shape
            others = (p for p in parts if p.tensor != first.tensor and p.axes == first.axes)
            alike_in_shape = (p.tensor for p in others if self._tensors[p.tensor].shape == shape)
            return Source((first,), copies=tuple(alike_in_shape))
        self._rivals[name] = list(dict.fromkeys(p.tensor for p in parts))
        if len({p.tensor for p in alike}) == 1:
            return Source((first,))
        if not is_needed:
            return None
        raise self.explain_doubt(name)

    def list_doubtful(self, found: Mapping[str, Source]) -> list[str]:
        """List weights of few values that a part of a name alone gave a tensor.

        There is no doubt if every tensor of these values is that of one weight.
        """
        owners = Counter(part.tensor for source in found.values() for part in source.parts)
        return [
            name
            for name, rivals in self._rivals.items()
            if name in found
            and found[name].parts[0].tensor != name
            and any(owners[tensor] != 1 for tensor in rivals)
        ]

    def explain_doubt(self, name: str) -> LadyError:
        """Return the error that a weight may be one of several tensors."""
        names = " or ".join(f"'{tensor}'" for tensor in self._rivals[name][:2])
        what = f"weight '{name}' of the graph holds few values, and may be {names} by chance"
        return LadyError(f"{what}; give --like a checkpoint that was trained")

    def _find_parts(self, array: np.ndarray) -> Source | None:
        """Find the parts of several tensors that a weight is made of, or the one that it is in."""
        for axis in range(min(array.ndim, 2)):
            turned = np.moveaxis(array, axis, 0)
            parts: list[Part] = []
            done = 0
            while done < len(turned):
                part = self._find_longest(turned[done:])
                if part is None or not _has_values(turned[done : done + part.stop - part.start]):
                    # a row of zeros may come from anywhere
                    break
                parts.append(part)
                done += part.stop - part.start
            if done == len(turned):
                return Source(tuple(parts), axis)
        return None

    def _find_longest(self, rows: np.ndarray) -> Part | None:
        """Find the longest part of a tensor with which some rows begin."""
        best: Part | None = None
        is_told = True
        for part in self._list_starts(rows):
            view = self._take(part.tensor, rows.dtype).transpose(part.axes)[part.start :]
            both = min(len(view), len(rows))
            same = (view[:both].reshape(both, -1) == rows[:both].reshape(both, -1)).all(1)
            count = both if same.all() else int(same.argmin())
            longest = 0 if best is None else best.stop - best.start
            if count > longest:
                best = Part(part.tensor, part.axes, part.start, part.start + count)
            is_told = count > longest or (is_told and count < longest)
        # two tensors, or two places in one, begin as well with these rows
        return best if is_told else None

    def _list_starts(self, rows: np.ndarray) -> Iterator[Part]:
        """List where tensors have the first of some rows."""
        first = rows[0].ravel()
        for name in self._tensors:
            shape = self._tensors[name].shape
            for axes in _list_orders(shape):
                if not axes or int(np.prod(shape)) // shape[axes[0]] != first.size:
                    continue
                view = self._take(name, rows.dtype).transpose(axes)
                # by one element first, then by the row
                flat = view.reshape(len(view), -1)
                for k in np.flatnonzero(flat[:, 0] == first[0])[:MAX_STARTS].tolist():
                    if np.array_equal(flat[k], first):
                        yield Part(name, axes, k, k + 1)


def _has_values(array: np.ndarray, count: int = MIN_PART_VALUES) -> bool:
    """Tell whether an array holds so many different values."""
    return len(np.unique(array.ravel()[:LOOKED_AT])) >= count


def _list_orders(shape: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """List the orders of axes that give different layouts, the own one first."""
    count = len(shape)
    if count > MAX_AXES:
        yield tuple(range(count))
        return
    seen = set()
    for axes in itertools.permutations(range(count)):
        # axes of one position may stand anywhere
        key = tuple(a for a in axes if shape[a] > 1)
        if key not in seen:
            seen.add(key)
            yield axes
