"""Compares two nodes by their operators, results and numbers of operands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from onnx import FunctionProto, NodeProto

from ..graph.model import Graph
from ..graph.nodes import describe_node
from ..vocabulary.structure import normalise_domain
from .scopes import NameScope
from .versions import find_oldest_meaning


@dataclass(frozen=True)
class NodePair:
    """Two nodes that are met in the same place.

    Attributes:
        one, a: the scope of the reference's node, and the node.
        two, b: the scope of the suspect's node, and the node.
    """

    one: NameScope
    a: NodeProto
    two: NameScope
    b: NodeProto

    @property
    def place(self) -> str:
        """The suspect's node, as messages name it."""
        return f"node {describe_node(self.b)}"

    @property
    def key(self) -> tuple[int, int]:
        """What tells the pair from other pairs."""
        # the scopes hold the nodes, so that their identities stay their own
        return id(self.a), id(self.b)

    @property
    def sides(self) -> tuple[tuple[NameScope, NodeProto], tuple[NameScope, NodeProto]]:
        """The scope and the node of the reference, and those of the suspect."""
        return (self.one, self.a), (self.two, self.b)


def find_misfit(pair: NodePair) -> str:
    """Find why two nodes are no counterparts; empty where they may be."""
    a, b = pair.a, pair.b
    functions = [find_function(scope.graph, node) for scope, node in pair.sides]
    # a local function may stand under the name of an operator, and is none
    if (functions[0] is None) != (functions[1] is None) or (
        _name_operator(a) != _name_operator(b) and any(functions)
    ):
        return f"the reference has {describe_node(a)}"
    # a batch norm of the versions 7 to 13 trains where it has five results, and does not with one
    if [bool(n) for n in trim_names(a.output)] != [bool(n) for n in trim_names(b.output)]:
        return f"its results are others than those of the reference's {describe_node(a)}"
    if len(trim_names(a.input)) != len(trim_names(b.input)):
        return f"the number of operands is another than that of the reference's {describe_node(a)}"
    return ""


def find_difference_of_meaning(pair: NodePair) -> str:
    """Find how two operators differ that are no local functions; empty where they do not."""
    if _name_operator(pair.a) != _name_operator(pair.b):
        return f"the reference has {describe_node(pair.a)}"
    ours, theirs = (scope.read_version(node.domain) for scope, node in pair.sides)
    if ours == theirs:
        return ""
    meanings = [
        find_oldest_meaning(node.op_type, node.domain, version)
        for (_, node), version in zip(pair.sides, (ours, theirs), strict=True)
    ]
    if meanings[0] == meanings[1]:
        return ""
    return (
        f"it is an operator of version {theirs} of its domain, in the reference of {ours}, "
        "and they differ"
    )


def _name_operator(node: NodeProto) -> tuple[str, str, str]:
    return node.op_type, normalise_domain(node.domain), node.overload


def trim_names(names: Sequence[str]) -> list[str]:
    """Drop the empty names at the end, which stand for operands or results that are left out."""
    kept = list(names)
    while kept and not kept[-1]:
        kept.pop()
    return kept


def find_function(graph: Graph, node: NodeProto) -> FunctionProto | None:
    """Find the local function that a node calls; None where it calls none."""
    return graph.functions.get((normalise_domain(node.domain), node.op_type, node.overload))
