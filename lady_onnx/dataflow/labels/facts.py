"""Facts: everything that the operators of one graph say about the order of elements.

Every statement of an operator is one of five kinds: labels are born, two labels are equal, one
label has another as its parent, a label is pinned, or some of the labels that were born together
are touched. The module records these statements; it draws no conclusions from them. The groups that
they amount to are found by `lady_onnx.symmetry`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ...errors import UnknownStructureError
from .roles import LabelRun, Role, RolePair, find_components, to_dense

MAX_JOINT_LABELS = 1 << 18
"""The most labels that elements along several axes may have of their own.

Each of them takes about a kilobyte on the way.
"""
POSITION = "position"
"""The reason of addresses that nothing better is known of."""
GRAPH_INPUT = "graph input"
"""The reason of the addresses of the graph's inputs."""


@dataclass
class Facts:
    """Everything that the operators of one graph say, in the order of their nodes.

    Attributes:
        label_count: how many labels there are; they are numbered from 0 on.
        births: the first label of every birth, ascending.
        equal: pairs of labels that are equal, one pair of roles a statement.
        parents: child labels and their parents, one pair of arrays a relation. A parent may be an
            address, a child never is.
        equal_nodes: for each entry of `equal` the node that said it.
        parent_nodes: for each entry of `parents` the node that said it.
        pins: pinned labels, the reason, and the node that gave it.
        read: labels of axes that an operator contracts or pins. All other labels are computed in
            vain: no output depends on them.
        touched: an operation, as a number, and the labels that it is done to. An entry is kept
            where other labels were born together with these.
        node: the node that speaks.
        reason: why the addresses that this node meets keep their order.
    """

    label_count: int = 0
    births: list[int] = field(default_factory=list)
    equal: list[RolePair] = field(default_factory=list)
    parents: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)
    equal_nodes: list[str] = field(default_factory=list)
    parent_nodes: list[str] = field(default_factory=list)
    pins: list[tuple[Role, str, str]] = field(default_factory=list)
    read: list[Role] = field(default_factory=list)
    touched: list[tuple[int, Role]] = field(default_factory=list)
    node: str = ""
    reason: str = POSITION
    _classes: tuple[tuple[int, int], np.ndarray] | None = field(default=None, repr=False)

    @property
    def classes(self) -> np.ndarray:
        """The classes of labels that are equal by what has been said so far, int64 [labels]."""
        known = len(self.equal), self.label_count
        if self._classes is None or self._classes[0] != known:
            pairs = [(to_dense(a), to_dense(b)) for a, b in self.equal]
            sides = ([np.empty(0, np.int64), *side] for side in zip(*pairs, strict=True))
            a, b = map(np.concatenate, sides) if pairs else (np.empty(0, np.int64),) * 2
            self._classes = known, find_components(a, b, self.label_count)
        return self._classes[1]

    @property
    def bracket_reason(self) -> str:
        """Why labels along an axis that an equation pins keep their order.

        Being an input of the graph is a reason for what meets the input, but not for such an axis.
        """
        return self.reason if self.reason != GRAPH_INPUT else POSITION

    def make_labels(self, shape: Sequence[int]) -> np.ndarray:
        """Make new labels, all different, as an int64 array of `shape`.

        Raises:
            UnknownStructureError: elements along several axes would have too many labels of their
                own.
        """
        size = math.prod(shape)
        if size > MAX_JOINT_LABELS and sum(n > 1 for n in shape) > 1:
            raise UnknownStructureError(
                "more elements along several axes than are followed one by one"
            )
        start = self.reserve_labels(size)
        return np.arange(start, start + size).reshape(shape)

    def reserve_labels(self, size: int) -> int:
        """Make `size` new labels, which are born together, and return the first."""
        self.births.append(self.label_count)
        self.label_count += size
        return self.label_count - size

    def tie_runs(self, a: LabelRun, b: LabelRun) -> None:
        """State that the labels of two runs are equal, one by one."""
        self.equal.append((a, b))
        self.equal_nodes.append(self.node)

    def pin_run(self, run: LabelRun, reason: str) -> None:
        """State that the labels of a run keep their order, for `reason`."""
        self.pins.append((run, reason, self.node))

    def tie_labels(self, a: np.ndarray, b: np.ndarray) -> None:
        """State that labels are equal, one by one; one that meets an address is pinned."""
        a, b = a.ravel(), b.ravel()
        both = (a >= 0) & (b >= 0)
        if both.all():
            self.equal.append((a, b))
            self.equal_nodes.append(self.node)
            return
        if both.any():
            self.equal.append((a[both], b[both]))
            self.equal_nodes.append(self.node)
        self.pin_labels(np.concatenate([a[(a >= 0) & ~both], b[(b >= 0) & ~both]]))

    def pin_labels(self, labels: np.ndarray, reason: str = "") -> None:
        """State that labels keep their order; addresses among them are passed over.

        Args:
            labels: labels and addresses, of any shape.
            reason: why; by default the reason of the addresses that the labels meet.
        """
        labels = labels.ravel()
        labels = labels[labels >= 0]
        if labels.size:
            self.pins.append((labels, reason or self.reason, self.node))

    def relate_labels(self, child: np.ndarray, parent: np.ndarray) -> None:
        """Make `parent` the parent of `child`, element by element.

        Raises:
            AssertionError: a child would have two parents by this one relation.
        """
        if not self.try_relate_labels(child, parent):
            raise AssertionError(f"{self.node}: a label with two parents of one relation")

    def try_relate_labels(self, child: np.ndarray, parent: np.ndarray) -> bool:
        """Make `parent` the parent of `child`, unless a child would have two parents.

        Returns:
            Whether the labels were related. Where not, nothing is said of parents.
        """
        child, parent = (x.ravel() for x in np.broadcast_arrays(child, parent))
        # an address below a label fixes that label
        fixed = child < 0
        if fixed.any():
            self.pin_labels(parent[fixed])
            child, parent = child[~fixed], parent[~fixed]
        # by child, so that all parents of one stand side by side
        if (child[1:] <= child[:-1]).any():
            order = np.argsort(child, kind="stable")
            child, parent = child[order], parent[order]
            first = np.r_[True, child[1:] != child[:-1]]
            if (parent != parent[first][np.cumsum(first) - 1]).any():
                return False
            child, parent = child[first], parent[first]
        if child.size:
            self.parents.append((child, parent))
            self.parent_nodes.append(self.node)
        return True

    def expand_runs(self) -> Facts:
        """Return the same facts with arrays in place of runs, and touches split by occurrence."""
        return replace(
            self,
            equal=[(to_dense(a), to_dense(b)) for a, b in self.equal],
            pins=[(to_dense(p), reason, node) for p, reason, node in self.pins],
            read=[to_dense(r) for r in self.read],
            touched=[(what, to_dense(r)) for what, r in self.split_touches()],
        )

    def split_touches(self) -> list[tuple[int, Role]]:
        """List the touches, each over labels that occur equally often in it."""
        return [touch for entry in self.touched for touch in split_by_occurrence(*entry)]


def split_by_occurrence(what: int, labels: Role) -> list[tuple[int, Role]]:
    """Split a touch into one for all labels that occur in it once, one for all that do twice, ...

    Args:
        what: the operation, as a number. The operation done `n` times is numbered `what + n - 1`.
        labels: the labels that it is done to; addresses among them are passed over.

    >>> split_by_occurrence(100, np.array([4, 5, 5, 6]))
    [(100, array([4, 6])), (101, array([5]))]
    """
    # `colour_classes` adds a touch to its labels by an index, which counts a repeated label once
    if isinstance(labels, LabelRun):
        return [(what, labels)]
    found, times = np.unique(labels[labels >= 0], return_counts=True)
    return [(what + n - 1, found[times == n]) for n in np.unique(times).tolist()]
