"""Reads graphs into terms, node by node.

Nodes are read by the rewrites of their operators, bodies and functions where they stand.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence, Set

from onnx import AttributeProto, NodeProto

from ..graph.model import Graph
from ..graph.nodes import describe_node, find_live_nodes, read_attributes
from ..rules.rewrites.blocks.maps import is_blocked
from ..rules.rewrites.blocks.reading import BLOCKED_DOMAIN, commute_with_blocking, read_blocked_node
from ..rules.rewrites.call import Call, TrackedAttributes
from ..rules.rewrites.nodes import rewrite_node
from ..vocabulary.schemas import find_schema
from ..vocabulary.structure import normalise_domain
from .algebra.movements import strip_factor, strip_movement
from .algebra.numbering import Terms
from .algebra.term import NoNormalFormError, Term, walk_terms
from .bodies import read_node_with_bodies
from .environment import Environment, Frame
from .functions import read_function_call, read_fused_node

MISFIT_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    TypeError,
    ValueError,
)
"""What a rewrite may raise on a node that is not as its specification says."""


class Reader:
    """Reads a graph into terms.

    Args:
        graph: the graph.
        terms: makes the terms.
        unshared: for every node, in the order of reading, the positions of the operands that
            nothing else reads.
        is_lenient: whether a node that has no normal form stands for something unknown, in place of
            an error.

    Attributes:
        environment: what names stand for, and what is declared of them.
        labels: the name of the node that computes a term, by the identity of the term.
    """

    def __init__(
        self,
        graph: Graph,
        terms: Terms,
        unshared: Sequence[Set[int]] = (),
        is_lenient: bool = False,
    ):
        self.graph = graph
        self.terms = terms
        self.environment = Environment(graph, terms)
        self.labels: dict[int, str] = {}
        self._unshared = unshared
        self._rewritten: list[Sequence[Term | None]] = []
        """The operands of every node that was rewritten, in the order of reading."""
        self._is_lenient = is_lenient

    def read_graph(self) -> list[Term]:
        """Read the graph, and return the terms of its outputs.

        Raises:
            NoNormalFormError: if a node has no normal form.
        """
        graph, inputs = self.graph.model.graph, self.graph.required_inputs
        known = {v.name: self.terms.make_input(k, v.name, v.type) for k, v in enumerate(inputs)}
        frame = Frame(known, "", self.graph.opsets)
        outputs = [o.name for o in graph.output]
        for node in find_live_nodes(self.graph.nodes, outputs):
            self._read_node(node, frame)
        weights = [v for v in graph.input if v.name in self.graph.tensors]
        self.environment.note_declarations(
            frame, inputs, [*weights, *graph.value_info], graph.output
        )
        return self.environment.find_outputs(outputs, frame)

    def find_unshared_operands(self, ends: Sequence[Term]) -> list[set[int]]:
        """Find for every node that was rewritten the operands that nothing else reads.

        Args:
            ends: the terms of the outputs.

        Returns:
            Positions of operands, for another reader of the same graph.
        """
        # factors and movements go with what they stand behind: it is that which others may read
        reads = Counter(
            id(strip_factor(o)) for term in walk_terms(ends) for o in term.operands if o is not None
        )
        reads.update(id(strip_factor(end)) for end in ends)

        def is_unshared(term: Term | None) -> bool:
            if term is None:
                return False
            core = strip_factor(term)
            return max(reads[id(core)], reads[id(strip_movement(core))]) < 2

        return [
            {k for k, o in enumerate(operands) if is_unshared(o)} for operands in self._rewritten
        ]

    def _read_node(self, node: NodeProto, frame: Frame) -> None:
        """Add the results of a node to what is known."""
        known = frame.known
        weight = frame.prefix + (node.output[0] if node.output else "")
        # the result of a constant node is among the weights of the graph
        if weight in self.graph.tensors:
            known[node.output[0]] = self.terms.make_weight(weight)
            return
        try:
            made = self._read_results(node, frame)
        except NoNormalFormError as error:
            if self._is_lenient:
                made = self._make_unknown_results(node)
            elif str(error).startswith(self.graph.name):
                # an inner node is named already
                raise
            else:
                raise NoNormalFormError(
                    f"{self._describe(node)} has no normal form: {error}"
                ) from error
        except MISFIT_ERRORS as error:
            if not self._is_lenient:
                what = " ".join(str(error).split())
                raise NoNormalFormError(
                    f"{self._describe(node)} does not fit its specification ({what})"
                ) from error
            made = self._make_unknown_results(node)
        for name, term in zip(node.output, made, strict=False):
            if name and term is not None:
                known[name] = term
                self.labels.setdefault(id(term), node.name or name)
        if any(name and name not in known for name in node.output):
            raise NoNormalFormError(
                f"{self._describe(node)} has no normal form: a result that its rule does not give"
            )

    def _describe(self, node: NodeProto) -> str:
        return f"{self.graph.name}: node {describe_node(node)}"

    def _make_unknown_results(self, node: NodeProto) -> Sequence[Term]:
        """Make results of which nothing is known."""
        return self.terms.make_node(
            node.op_type, "unknown", [], (), len(node.output), kind=(0, None), is_unique=True
        )

    def _read_results(self, node: NodeProto, frame: Frame) -> Sequence[Term | None]:
        """Read a node by what kind of operator it is."""
        operands = [
            self.environment.find_term(name, frame) if name else None for name in node.input
        ]
        # an operand that is left out at the end is the same as none
        while operands and operands[-1] is None:
            operands.pop()
        domain = normalise_domain(node.domain)
        version = frame.opsets.get(domain, 1)
        if domain == BLOCKED_DOMAIN and not self.terms.is_exact:
            return read_blocked_node(self.terms, node, operands, self._rewrite_made_node)
        if any(map(is_blocked, operands)):
            return commute_with_blocking(
                self.terms, node, version, operands, self._rewrite_made_node
            )
        function = self.graph.functions.get((domain, node.op_type, node.overload))
        if function is not None:
            return read_function_call(self.environment, self._read_node, node, function, operands)
        bodies = [
            a for a in node.attribute if a.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS)
        ]
        if bodies:
            return read_node_with_bodies(
                self.environment, self._read_node, node, bodies, operands, frame
            )
        if domain or find_schema(node.op_type, domain, version) is None:
            return read_fused_node(self.environment, self._rewrite, node, operands, frame, version)
        return self._rewrite(node, version, operands)

    def _rewrite_made_node(
        self, node: NodeProto, version: int, operands: Sequence[Term | None]
    ) -> Sequence[Term | None]:
        """Read a node that stands in no file."""
        if not normalise_domain(node.domain):
            return self._rewrite(node, version, operands)
        known = {name: o for name, o in zip(node.input, operands, strict=False) if o is not None}
        frame = Frame(known, "", self.graph.opsets)
        return read_fused_node(self.environment, self._rewrite, node, operands, frame, version)

    def _rewrite(
        self, node: NodeProto, version: int, operands: Sequence[Term | None]
    ) -> Sequence[Term | None]:
        """Rewrite a node of the default domain."""
        # both readings of a graph rewrite the same nodes in the same order
        number = len(self._rewritten)
        places = self._unshared[number] if number < len(self._unshared) else ()
        self._rewritten.append(operands)
        unshared = frozenset(id(operands[k]) for k in places if k < len(operands))
        attributes = TrackedAttributes(read_attributes(node))
        return rewrite_node(Call(self.terms, node, version, operands, attributes, unshared))
