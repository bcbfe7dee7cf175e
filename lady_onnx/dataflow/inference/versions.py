"""Which version of an operator set each node speaks: the model's, or that of plain forms."""

from __future__ import annotations

import onnx
from onnx import NodeProto, OperatorSetIdProto

from ...graph.model import Graph
from ...rules.plain_forms import PLAIN_OPSET


class NodeVersions:
    """The operator sets of a graph's nodes, and of the nodes of plain forms.

    Args:
        graph: the graph; its imports hold for all nodes but those of plain forms.
    """

    def __init__(self, graph: Graph):
        self._graph = graph
        self._plain: dict[int, NodeProto] = {}
        """The nodes of plain forms by identity; holding them keeps their identities unique."""

    def note_plain(self, node: NodeProto) -> None:
        """Note that a node stands in a plain form, which has an opset of its own."""
        self._plain[id(node)] = node

    def find_opset(self, node: NodeProto) -> int:
        """Return the version of its domain that a node speaks."""
        is_plain = id(node) in self._plain
        return PLAIN_OPSET if is_plain else self._graph.opset(node.domain)

    def list_opsets(self, node: NodeProto) -> list[OperatorSetIdProto]:
        """List the operator sets with which a node is read."""
        if id(node) in self._plain:
            return [onnx.helper.make_opsetid("", PLAIN_OPSET)]
        return list(self._graph.model.opset_import)
