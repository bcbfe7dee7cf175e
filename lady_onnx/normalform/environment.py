"""What names stand for while a graph is read, and what the file declares of them.

Nodes are read by `reader`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from onnx import NodeProto, TypeProto, ValueInfoProto

from ..graph.model import Graph
from ..rules.rewrites.blocks.maps import is_blocked
from ..semantics.declarations import Declaration
from .algebra.numbering import Terms
from .algebra.term import NoNormalFormError, Term


@dataclass(frozen=True)
class Frame:
    """The names of one graph, body or function while its nodes are read.

    Attributes:
        known: the terms of the values that are read, by name; it grows with every node.
        prefix: what stands before the names of its weights in the graph's table.
        opsets: the version of every domain.
    """

    known: dict[str, Term]
    prefix: str
    opsets: Mapping[str, int]


@dataclass(frozen=True)
class DeclaredValue:
    """A value of which the file declares something, and which has a term.

    Attributes:
        name: the value, with the prefix of the body or function that it stands in.
        term_id: the identity of its term.
        type: what is declared of it.
    """

    name: str
    term_id: int
    type: TypeProto


ReadNode = Callable[[NodeProto, Frame], None]
"""Reads a node, and adds its results to what is known in a frame."""


class Environment:
    """What names of a graph, of its bodies and functions stand for.

    Args:
        graph: the graph.
        terms: makes terms.

    Attributes:
        declarations: everything that the file declares of values that are read.
        declared_values: the same of values that have a term.
        outer_prefixes: by the prefix of a body that of the graph around it, whose weights it may
            read.
        active_functions: the prefixes of the functions that are being read, the outermost first.
    """

    def __init__(self, graph: Graph, terms: Terms):
        self.graph = graph
        self.terms = terms
        self.declarations: list[Declaration] = []
        self.declared_values: list[DeclaredValue] = []
        self.outer_prefixes: dict[str, str] = {}
        self.active_functions: list[str] = []

    def find_term(self, name: str, frame: Frame) -> Term:
        """Find the term of a name.

        Raises:
            NoNormalFormError: if nothing makes it.
        """
        # known values come first: those from around that a weight of the body hides are not among
        # them (`bodies._list_visible_terms`)
        if name in frame.known:
            return frame.known[name]
        weight = self._find_weight(name, frame.prefix)
        if weight is not None:
            return self.terms.make_weight(weight)
        raise NoNormalFormError(f"{self.graph.name}: '{name}' is made by no node")

    def find_outputs(self, names: Sequence[str], frame: Frame) -> list[Term]:
        """Find the terms of the outputs of a graph or body.

        Raises:
            NoNormalFormError: if nothing makes one, or if one is a map in blocks of channels.
        """
        ends = [self.find_term(name, frame) for name in names]
        if any(map(is_blocked, ends)):
            raise NoNormalFormError(f"{self.graph.name}: an output is a map in blocks of channels")
        return ends

    def note_declarations(
        self,
        frame: Frame,
        inputs: Sequence[ValueInfoProto],
        inner: Sequence[ValueInfoProto],
        outputs: Sequence[ValueInfoProto],
    ) -> None:
        """Note what a graph, body or function declares of values that are read.

        Args:
            frame: its names.
            inputs: its inputs.
            inner: its inner values.
            outputs: its outputs.
        """
        for values, is_given, is_compared in (
            # what an operator gives to its body does not follow from the nodes of the body; what is
            # declared of the model's own inputs is its interface
            (inputs, bool(frame.prefix), True),
            (inner, False, False),
            (outputs, False, True),
        ):
            for value in values:
                name = frame.prefix + value.name
                weight = self._find_weight(value.name, frame.prefix)
                # a value that is neither known nor a weight is read by nobody
                if value.name in frame.known:
                    term = frame.known[value.name]
                    what = term.dtype, term.shape
                    self.declared_values.append(DeclaredValue(name, id(term), value.type))
                elif weight is not None:
                    what = self.graph.tensors[weight].data_type, self.graph.shape(weight)
                else:
                    continue
                self.declarations.append(
                    Declaration(name, value.type, *what, is_given, is_compared)
                )

    def _find_weight(self, name: str, prefix: str) -> str | None:
        """Find the weight that a body calls by a name: its own, or one of the graphs around it."""
        home: str | None = prefix
        while home is not None:
            if home + name in self.graph.tensors:
                return home + name
            home = self.outer_prefixes.get(home)
        return None
