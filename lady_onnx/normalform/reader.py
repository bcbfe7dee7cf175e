"""Reads graphs into terms: nodes by the rules of their operators, bodies and functions where they stand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence, Set

import onnx.helper
import onnx.numpy_helper
from onnx import AttributeProto, FunctionProto, GraphProto, NodeProto, TypeProto, ValueInfoProto

from ..equality.versions import find_oldest_meaning
from ..graph.model import Graph
from ..graph.nodes import (
    describe_node,
    find_live_nodes,
    prefix_of_body,
    prefix_of_function,
    read_attributes,
    sort_topologically,
    walk_nodes,
)
from ..rules.plainforms import spell_out
from ..semantics.declarations import Declaration
from ..semantics.lengths import Length
from ..semantics.schemas import find_schema, normalise_domain
from .algebra.movements import strip_factor, strip_movement
from .algebra.numbering import Terms
from .algebra.sums import is_shape_kept
from .algebra.term import Body, NoNormalForm, Scope, Term, list_with_defaults, walk_terms
from .rewrites.arguments import count_axis_from_front
from .rewrites.blocked import BLOCKED_DOMAIN, commute_with_blocking, read_blocked_node
from .rewrites.blocked_maps import is_blocked
from .rewrites.call import Call, TrackedAttributes
from .rewrites.keeping import rewrite_node

PLAIN = 20
"""The version that plain forms of fused operators speak."""


class Reader:
    """Reads a graph into terms.

    Args:
        graph: the graph.
        terms: makes the terms.
        loose: for every node in the order of reading the positions of operands that nothing else reads.
        is_lenient: whether nodes that have no form stand for something unknown.
    """

    def __init__(
        self, graph: Graph, terms: Terms, loose: Sequence[Set[int]] = (), is_lenient: bool = False
    ):
        self.graph = graph
        self.terms = terms
        self.labels: dict[int, str] = {}
        self._loose = loose
        self._read: list[Sequence[Term | None]] = []
        """The operands of every node that was rewritten."""
        self._is_lenient = is_lenient
        self.declared: list[Declaration] = []
        self.terms_of: list[tuple[str, int, TypeProto]] = []
        """Values of which something is declared, the identity of their terms, and what it is."""
        self._around: dict[str, str] = {}
        """By the prefix of a body that of the graph around it, whose weights it may read."""
        self._spelled = 0
        self._calls: list[str] = []

    def run(self) -> list[Term]:
        """The terms of the graph's outputs."""
        graph = self.graph.model.graph
        known = {
            v.name: self.terms.input(k, v.name, v.type)
            for k, v in enumerate(self.graph.required_inputs)
        }
        outputs = [o.name for o in graph.output]
        for node in find_live_nodes(self.graph.nodes, outputs):
            self.read(node, known, "", self.graph.opsets)
        weights = [v for v in graph.input if v.name in self.graph.tensors]
        self._declare(
            "", known, self.graph.required_inputs, [*weights, *graph.value_info], graph.output
        )
        return self._ends(outputs, known, "")

    def _declare(
        self,
        prefix: str,
        known: Mapping[str, Term],
        inputs: Sequence[ValueInfoProto],
        inner: Sequence[ValueInfoProto],
        outputs: Sequence[ValueInfoProto],
    ) -> None:
        """Notes what a graph, body or function declares of values that are read."""
        for values, is_given, is_compared in (
            (inputs, bool(prefix), True),
            (inner, False, False),
            (outputs, False, True),
        ):
            for value in values:
                weight = self._weight(value.name, prefix)
                if value.name in known:
                    what = known[value.name].dtype, known[value.name].shape
                    self.terms_of.append((prefix + value.name, id(known[value.name]), value.type))
                elif weight is not None:
                    what = self.graph.tensors[weight].data_type, self.graph.shape(weight)
                else:
                    continue
                self.declared.append(
                    Declaration(prefix + value.name, value.type, *what, is_given, is_compared)
                )

    def _ends(self, names: Sequence[str], known: Mapping[str, Term], prefix: str) -> list[Term]:
        """The terms of the outputs of a graph or body."""
        ends = [self.find(name, known, prefix) for name in names]
        if any(map(is_blocked, ends)):
            raise NoNormalForm(f"{self.graph.name}: an output is a map in blocks of channels")
        return ends

    def read_once(self, ends: Sequence[Term]) -> list[set[int]]:
        """For every node that was rewritten the positions of operands that nothing else reads, for another reader."""
        reads = Counter(
            id(strip_factor(o)) for term in walk_terms(ends) for o in term.operands if o is not None
        )
        reads.update(id(strip_factor(end)) for end in ends)

        def is_loose(term: Term | None) -> bool:
            return (
                term is not None
                and max(
                    reads[id(strip_factor(term))],
                    reads[id(strip_movement(strip_factor(term)))],
                )
                < 2
            )

        return [{k for k, o in enumerate(operands) if is_loose(o)} for operands in self._read]

    def _rewritten(
        self, node: NodeProto, version: int, operands: Sequence[Term | None]
    ) -> Sequence[Term | None]:
        """The results of a node of the default domain."""
        places = self._loose[len(self._read)] if len(self._read) < len(self._loose) else ()
        self._read.append(operands)
        loose = frozenset(id(operands[k]) for k in places if k < len(operands))
        return rewrite_node(
            Call(
                self.terms, node, version, operands, TrackedAttributes(read_attributes(node)), loose
            )
        )

    def find(self, name: str, known: Mapping[str, Term], prefix: str) -> Term:
        if name in known:
            return known[name]
        weight = self._weight(name, prefix)
        if weight is not None:
            return self.terms.weight(weight)
        raise NoNormalForm(f"{self.graph.name}: '{name}' is made by no node")

    def _weight(self, name: str, prefix: str) -> str | None:
        """The weight that a body calls by a name: its own, or one of the graphs around it."""
        home: str | None = prefix
        while home is not None:
            if home + name in self.graph.tensors:
                return home + name
            home = self._around.get(home)
        return None

    def read(
        self, node: NodeProto, known: dict[str, Term], prefix: str, opsets: Mapping[str, int]
    ) -> None:
        """Adds the results of a node to what is known."""
        if prefix + (node.output[0] if node.output else "") in self.graph.tensors:
            known[node.output[0]] = self.terms.weight(prefix + node.output[0])
            return
        try:
            made = self._results(node, known, prefix, opsets)
        except NoNormalForm as error:
            if self._is_lenient:
                made = self._opaque(node)
            elif str(error).startswith(self.graph.name):
                raise
            else:
                raise NoNormalForm(
                    f"{self.graph.name}: node {describe_node(node)} has no normal form: {error}"
                ) from error
        except (
            ArithmeticError,
            AssertionError,
            AttributeError,
            LookupError,
            TypeError,
            ValueError,
        ) as error:
            # a node that is not as its specification says
            what = " ".join(str(error).split())
            if not self._is_lenient:
                raise NoNormalForm(
                    f"{self.graph.name}: node {describe_node(node)} does not fit its specification ({what})"
                ) from error
            made = self._opaque(node)
        for name, term in zip(node.output, made, strict=False):
            if name and term is not None:
                known[name] = term
                self.labels.setdefault(id(term), node.name or name)
        if any(name and name not in known for name in node.output):
            raise NoNormalForm(
                f"{self.graph.name}: node {describe_node(node)} has no normal form: a result that its rule does not give"
            )

    def _opaque(self, node: NodeProto) -> Sequence[Term]:
        """Results of which nothing is known."""
        return self.terms.node(
            node.op_type, "unknown", [], (), len(node.output), dtype=0, once=True
        )

    def _results(
        self, node: NodeProto, known: dict[str, Term], prefix: str, opsets: Mapping[str, int]
    ) -> Sequence[Term | None]:
        operands = [self.find(name, known, prefix) if name else None for name in node.input]
        while operands and operands[-1] is None:
            operands.pop()
        domain = normalise_domain(node.domain)
        version = opsets.get(domain, 1)
        if domain == BLOCKED_DOMAIN and not self.terms.exact:
            return read_blocked_node(self.terms, node, operands, self._plainly)
        if any(map(is_blocked, operands)):
            return commute_with_blocking(self.terms, node, version, operands, self._plainly)
        bodies = [
            a for a in node.attribute if a.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS)
        ]
        function = self.graph.functions.get((domain, node.op_type, node.overload))
        if function is not None:
            return self._call(node, function, operands)
        if bodies:
            return self._with_bodies(node, bodies, operands, known, prefix, opsets)
        if domain or find_schema(node.op_type, domain, version) is None:
            return self._fused(node, operands, known, prefix, version)
        return self._rewritten(node, version, operands)

    def _plainly(
        self, node: NodeProto, version: int, operands: Sequence[Term | None]
    ) -> Sequence[Term | None]:
        """The results of a node that stands in no file."""
        if not normalise_domain(node.domain):
            return self._rewritten(node, version, operands)
        known = {name: o for name, o in zip(node.input, operands, strict=False) if o is not None}
        return self._fused(node, operands, known, "", version)

    def _call(
        self, node: NodeProto, function: FunctionProto, operands: Sequence[Term | None]
    ) -> Sequence[Term | None]:
        """The results of a local function, its nodes read where it is called."""
        key = prefix_of_function(function)
        if key in self._calls:
            raise NoNormalForm("a function that calls itself")
        given = {a.name: a for a in function.attribute_proto} | {a.name: a for a in node.attribute}
        opsets = {normalise_domain(o.domain): o.version for o in function.opset_import}
        for inner in walk_nodes(function.node):
            domain = normalise_domain(inner.domain)
            versions = [known.get(domain, 1) for known in (opsets, self.graph.opsets)]
            if (
                versions[0] != versions[1]
                and len({find_oldest_meaning(inner.op_type, domain, v) for v in versions}) > 1
            ):
                # runtimes differ in which of the two they take
                raise NoNormalForm(
                    f"a function of version {versions[0]} in a model of version {versions[1]} with another {inner.op_type}"
                )
        own: dict[str, Term] = {}
        left_out = set(function.input)
        for name, operand in zip(function.input, operands, strict=False):
            if operand is not None:
                own[name] = operand
                left_out.discard(name)
        self._calls.append(key)
        try:
            for inner in find_live_nodes(sort_topologically(function.node), list(function.output)):
                plain = _bound(inner, given)
                for k, name in enumerate(plain.input):
                    if name in left_out:
                        plain.input[k] = ""
                self.read(plain, own, key, opsets)
            self._declare(key, own, (), function.value_info, ())
        finally:
            self._calls.pop()
        return [self.find(name, own, key) for name in function.output]

    def _fused(
        self,
        node: NodeProto,
        operands: Sequence[Term | None],
        known: dict[str, Term],
        prefix: str,
        version: int,
    ) -> Sequence[Term | None]:
        """An operator outside the specification: its plain form, or as it stands."""

        def rank(name: str) -> int | None:
            return known[name].rank if name in known else len(self.graph.shape(prefix + name))

        def fresh(hint: str) -> str:
            self._spelled += 1
            return f"\0{hint}{self._spelled}"

        spelled = None if self.terms.exact else spell_out(node, rank, fresh)
        if spelled is None and not normalise_domain(node.domain):
            raise NoNormalForm("an operator that the specification does not have")
        if spelled is None:
            return self.terms.node(
                node.op_type,
                node.domain,
                operands,
                list_with_defaults(node, version),
                len(node.output),
                once=True,
            )
        inner = dict(known)
        for name, operand in zip(node.input, operands, strict=False):
            if operand is not None:
                inner[name] = operand
        for part in spelled:
            if part.op_type == "Constant":
                value = onnx.helper.get_attribute_value(part.attribute[0])
                inner[part.output[0]] = self.terms.constant(onnx.numpy_helper.to_array(value))
                continue
            names = [inner[n] if n else None for n in part.input]
            if part.op_type in ("Add", "Mul") and not _fit(
                names, [n in node.input for n in part.input]
            ):
                raise NoNormalForm("its operands broadcast as the operator itself may not")
            made = self._rewritten(part, PLAIN, names)
            inner.update(
                {n: t for n, t in zip(part.output, made, strict=False) if n and t is not None}
            )
        return [inner[name] if name else None for name in node.output]

    def _with_bodies(
        self,
        node: NodeProto,
        bodies: Sequence[AttributeProto],
        operands: Sequence[Term | None],
        known: dict[str, Term],
        prefix: str,
        opsets: Mapping[str, int],
    ) -> Sequence[Term]:
        domain = normalise_domain(node.domain)
        if any(a.type == AttributeProto.GRAPHS for a in bodies):
            raise NoNormalForm("a list of bodies")
        self._around.update({prefix + prefix_of_body(node, a.name): prefix for a in bodies})
        condition = (
            operands[0].known
            if node.op_type == "If" and operands and operands[0] is not None
            else None
        )
        if condition is not None and condition.size == 1:
            name = "then_branch" if condition.reshape(-1)[0] else "else_branch"
            # a runtime reads both, and refuses what it cannot
            branches = {
                a.name: self._branch(a, known, prefix + prefix_of_body(node, a.name), opsets)
                for a in bodies
            }
            if len({tuple(t.dtype for t in own) for own in branches.values()}) > 1:
                raise NoNormalForm("branches of different types")
            return branches[name]
        meanings = [
            find_oldest_meaning(node.op_type, domain, v)
            for v in (opsets.get(domain, 1), self.terms.version)
        ]
        if meanings[0] != meanings[1]:
            raise NoNormalForm(f"version {opsets.get(domain, 1)} has another {node.op_type}")
        shapes = _formal_shapes(node, opsets.get(domain, 1), operands)
        made = tuple(
            self._body(a, shapes, known, prefix + prefix_of_body(node, a.name), opsets)
            for a in sorted(bodies, key=lambda a: a.name)
        )
        plain = list_with_defaults(node, self.terms.version)
        results = self.terms.node(
            node.op_type, node.domain, operands, plain, len(node.output), made
        )
        if node.op_type == "If":
            for k, result in enumerate(results):
                if any(body.declared[k].WhichOneof("value") for body in made):
                    # a runtime may take what is declared for true
                    continue
                ends = [body.outputs[k] for body in made]
                if len({e.dtype for e in ends}) == 1:
                    result.dtype = ends[0].dtype
                if len({e.shape for e in ends}) == 1:
                    result.shape = ends[0].shape
        return results

    def _branch(
        self,
        attribute: AttributeProto,
        known: Mapping[str, Term],
        prefix: str,
        opsets: Mapping[str, int],
    ) -> Sequence[Term]:
        """The results of the one branch that is ever taken."""
        hiding = _hiding(attribute.g)
        own = {name: term for name, term in known.items() if name not in hiding}
        outputs = [o.name for o in attribute.g.output]
        for inner in find_live_nodes(sort_topologically(attribute.g.node), outputs):
            self.read(inner, own, prefix, opsets)
        # of the branch itself nothing is left in the form
        self._declare(
            prefix, own, (), [*attribute.g.input, *attribute.g.value_info, *attribute.g.output], ()
        )
        return self._ends(outputs, own, prefix)

    def _body(
        self,
        attribute: AttributeProto,
        shapes: Sequence[tuple[Length, ...] | None],
        known: Mapping[str, Term],
        prefix: str,
        opsets: Mapping[str, int],
    ) -> Body:
        graph: GraphProto = attribute.g
        scope = Scope(self.terms.scope)
        self.terms.scope = scope
        try:
            own = dict(known)
            for name in _hiding(graph):
                own.pop(name, None)
            inputs = [self.terms.formal(k, v.type) for k, v in enumerate(graph.input)]
            for term, shape in zip(inputs, shapes, strict=False):
                term.shape = shape
            own.update({v.name: t for v, t in zip(graph.input, inputs, strict=True)})
            outputs = [o.name for o in graph.output]
            for node in find_live_nodes(sort_topologically(graph.node), outputs):
                self.read(node, own, prefix, opsets)
            self._declare(prefix, own, graph.input, graph.value_info, graph.output)
            ends = self._ends(outputs, own, prefix)
        finally:
            assert scope.outer is not None
            self.terms.scope = scope.outer
        declared = (
            TypeProto() if Declaration(v.name, v.type, t.dtype, t.shape).is_shown else v.type
            for v, t in zip(graph.output, ends, strict=True)
        )
        return Body(attribute.name, tuple(inputs), tuple(ends), tuple(declared), scope)


def _hiding(graph: GraphProto) -> set[str]:
    """The weights of a body: they hide values of the same name outside."""
    return {t.name for t in graph.initializer} | {t.values.name for t in graph.sparse_initializer}


def _formal_shapes(
    node: NodeProto, version: int, operands: Sequence[Term | None]
) -> list[tuple[Length, ...] | None]:
    """The shapes of the inputs of a Scan's body: those of its states, and of the slices of what it scans."""
    given = read_attributes(node)
    if node.op_type != "Scan" or normalise_domain(node.domain) or version < 9:
        return []
    scanned = int(given["num_scan_inputs"])
    axes = given.get("scan_input_axes", [0] * scanned)
    shapes = [None if o is None else o.shape for o in operands]
    states, rest = shapes[: len(shapes) - scanned], shapes[len(shapes) - scanned :]
    slices: list[tuple[Length, ...] | None] = []
    for shape, axis in zip(rest, axes, strict=True):
        place = 0 if shape is None else count_axis_from_front(axis, len(shape))
        slices.append(shape and (*shape[:place], *shape[place + 1 :]))
    return [*states, *slices]


def _fit(operands: Sequence[Term | None], given: Sequence[bool]) -> bool:
    """May the operands of a sum or product stand in a fused operator? Of those that it was given none grows the other."""
    a, b = operands
    if a is None or b is None:
        return False
    if given[1] and not (given[0] and b.shape == a.shape):
        return b.shape == a.shape or (
            b.rank == 1 and bool(a.shape) and b.shape == (a.shape or ())[-1:]
        )
    return is_shape_kept(a, b) or is_shape_kept(b, a)


def _bound(node: NodeProto, given: Mapping[str, AttributeProto]) -> NodeProto:
    """A node of a function with the attributes that a call gives; what a call leaves out is left out."""
    bound = NodeProto()
    bound.CopyFrom(node)
    del bound.attribute[:]
    for attribute in node.attribute:
        if not attribute.ref_attr_name:
            kept = bound.attribute.add()
            kept.CopyFrom(attribute)
            if attribute.type == AttributeProto.GRAPH:
                inner = [_bound(n, given) for n in attribute.g.node]
                del kept.g.node[:]
                kept.g.node.extend(inner)
        elif attribute.ref_attr_name in given:
            kept = bound.attribute.add()
            kept.CopyFrom(given[attribute.ref_attr_name])
            kept.name = attribute.name
    return bound
