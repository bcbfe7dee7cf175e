"""Which weight of the suspect is which of the reference: two graphs, node by node."""

from __future__ import annotations

import itertools

import onnx
from onnx import AttributeProto, GraphProto, NodeProto

from .errors import ArchitectureError
from .graph import Graph, label


def correspond(reference: Graph, suspect: Graph) -> dict[str, str]:
    """For every weight of the reference the name of the suspect's.

    Both graphs must have the same nodes in the same order, wired alike; names are free.
    Raises ArchitectureError with the place where they part.
    """

    def part(where: str, what: str) -> ArchitectureError:
        return ArchitectureError(
            f"{suspect.name}: another architecture than {reference.name}: at {where}, {what}; "
            "compare models exported from the same network"
        )

    names: dict[str, str] = {}
    back: dict[str, str] = {}

    def same(a: str, b: str, where: str) -> None:
        if (a == "") != (b == "") or names.setdefault(a, b) != b or back.setdefault(b, a) != a:
            raise part(where, f"'{b}' stands where the reference has '{a}'")

    for kind in ("input", "output"):
        ours = [v for v in getattr(reference.model.graph, kind) if v.name not in reference.tensors]
        theirs = [v for v in getattr(suspect.model.graph, kind) if v.name not in suspect.tensors]
        if len(ours) != len(theirs):
            raise part(f"the {kind}s", f"there are {len(theirs)} where the reference has {len(ours)}")
        if kind == "input":
            for v, w in zip(ours, theirs, strict=True):
                same(v.name, w.name, "the inputs")
    mine = [n for n in reference.nodes if not set(n.output) & set(reference.tensors)]
    other = [n for n in suspect.nodes if not set(n.output) & set(suspect.tensors)]
    for a, b in itertools.zip_longest(mine, other):
        if a is None or b is None:
            raise part("the last node", f"it has {len(other)} nodes where the reference has {len(mine)}")
        where = f"node {label(b)}"
        if (a.op_type, a.domain) != (b.op_type, b.domain):
            raise part(where, f"the reference has {label(a)}")
        if not _alike(a, b):
            raise part(where, "the attributes differ")
        if len(a.input) != len(b.input) or len(a.output) != len(b.output):
            raise part(where, "the number of operands differs")
        for x, y in zip([*a.input, *a.output], [*b.input, *b.output], strict=True):
            if (x in reference.tensors) != (y in suspect.tensors):
                raise part(where, f"'{y}' is a weight in one model and computed in the other")
            if x in reference.tensors:
                if reference.shape(x) != suspect.shape(y):
                    raise part(
                        where, f"weight '{y}' has shape {list(suspect.shape(y))}, the reference's {list(reference.shape(x))}"
                    )
                if reference.tensors[x].data_type != suspect.tensors[y].data_type:
                    kinds = [onnx.TensorProto.DataType.Name(g.tensors[n].data_type) for g, n in ((suspect, y), (reference, x))]
                    raise part(where, f"weight '{y}' is {kinds[0]}, the reference's {kinds[1]}")
            if x or y:
                same(x, y, where)
    for v, w in zip(reference.model.graph.output, suspect.model.graph.output, strict=True):
        same(v.name, w.name, "the outputs")
    return {a: b for a, b in names.items() if a in reference.tensors}


def _alike(a: NodeProto, b: NodeProto) -> bool:
    """The same attributes, whatever their order; of subgraphs the operators count, not the weights."""
    ours, theirs = ({x.name: x for x in n.attribute} for n in (a, b))
    return ours.keys() == theirs.keys() and all(_same_attribute(x, theirs[name]) for name, x in ours.items())


def _same_attribute(a: AttributeProto, b: AttributeProto) -> bool:
    if a.type == AttributeProto.GRAPH and b.type == AttributeProto.GRAPH:
        return _operators(a.g) == _operators(b.g)
    return bool(a.SerializeToString(deterministic=True) == b.SerializeToString(deterministic=True))


def _operators(graph: GraphProto) -> list:
    return [(n.op_type, n.domain, [_operators(x.g) for x in n.attribute if x.type == AttributeProto.GRAPH]) for n in graph.node]
