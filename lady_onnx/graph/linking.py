"""Several files as one graph: what one gives is what another is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx.compose
from onnx import ModelProto, ValueInfoProto, helper

from ..errors import LadyError, UnknownNameError
from ..vocabulary.structure import IDENTITY
from .functions import inline_functions
from .model import Graph

JOINED_FIELDS = ("node", "initializer", "sparse_initializer", "input", "output", "value_info")
"""Fields of a graph whose entries those of several parts follow each other in."""


def link_graphs(graphs: Sequence[Graph], links: Sequence[tuple[str, str]]) -> Graph:
    """Return one graph of several, in which every name is preceded by that of its file.

    A weight `weight` of `encoder.onnx` is called `encoder/weight`. A linked output is taken to go
    to the inputs that are linked to it, and nowhere else.

    Args:
        graphs: the parts, from files with different names.
        links: `(output, input)`: names in the parts, alone where only one part has them, else with
            that of their file.

    Raises:
        LadyError: the parts do not fit.
    """
    stems = [g.path.stem if g.path else f"part{k}" for k, g in enumerate(graphs)]
    if len(set(stems)) < len(stems):
        what = "another linked file has the same name; rename one of them"
        raise LadyError(f"{graphs[0].name}: {what}")
    whole = ModelProto(ir_version=max(g.model.ir_version for g in graphs))
    whole.graph.name = "+".join(stems)
    opsets: dict[str, int] = {}
    for stem, graph in zip(stems, graphs, strict=True):
        _append_part(whole, stem, graph, opsets, graphs[0].name)
    whole.opset_import.extend(
        helper.make_opsetid("" if d == "ai.onnx" else d, v) for d, v in opsets.items()
    )
    # All outputs are known before the first link, which takes what it links out of the graph's.
    outputs = {o.name: o for o in whole.graph.output}
    inputs = {i.name: i for i in whole.graph.input}
    for given, taken in links:
        source = _find_value(outputs, given, "output", graphs[0].name)
        target = _find_value(inputs, taken, "input", graphs[0].name)
        _link_values(whole, source, target, graphs[0].name)
    return Graph(whole)


def _append_part(
    whole: ModelProto, stem: str, graph: Graph, opsets: dict[str, int], first: str
) -> None:
    """Append one part to the whole, and its operator sets to those that all parts share.

    Args:
        whole: the model of the parts so far.
        stem: what precedes the names of this part.
        graph: the part.
        opsets: the versions of operator sets by domain.
        first: the name of the first part, for messages.
    """
    part = graph.to_model("")
    if part.functions:
        part = inline_functions(part)
    for entry in part.opset_import:
        domain = entry.domain or "ai.onnx"
        if opsets.setdefault(domain, entry.version) != entry.version:
            what = f"operator set {entry.version}, {first} has {opsets[domain]}"
            raise LadyError(f"{graph.name}: {what}; convert one with onnx.version_converter")
    part = onnx.compose.add_prefix(part, f"{stem}/")
    for name in JOINED_FIELDS:
        getattr(whole.graph, name).extend(getattr(part.graph, name))


def _find_value(
    known: Mapping[str, ValueInfoProto], name: str, kind: str, first: str
) -> ValueInfoProto:
    """Return the only input or output of a name, which may stand without its file's.

    Args:
        known: the inputs, or the outputs, of all parts by their full names.
        name: what is looked for.
        kind: `input` or `output`.
        first: the name of the first part, for messages.
    """
    if name in known:
        return known[name]
    found = [value for key, value in known.items() if key.partition("/")[2] == name]
    if len(found) != 1:
        why = "several linked files have" if found else "no linked file has"
        what = f"{why} an {kind} '{name}'; the {kind}s are {', '.join(sorted(known))}"
        raise UnknownNameError(f"{first}: {what}")
    return found[0]


def _link_values(
    whole: ModelProto, source: ValueInfoProto, target: ValueInfoProto, first: str
) -> None:
    """Make an output of one part the input of another, so that both become inner values."""
    if not _may_be_one(source, target):
        what = f"output '{source.name}' does not fit input '{target.name}'"
        raise LadyError(f"{first}: {what}: they differ in type or shape; link others")
    if not any(i.name == target.name for i in whole.graph.input):
        raise LadyError(f"{first}: input '{target.name}' is linked twice; leave one link out")
    node = helper.make_node(IDENTITY, [source.name], [target.name], f"link {target.name}")
    whole.graph.node.append(node)
    for field, name in ((whole.graph.input, target.name), (whole.graph.output, source.name)):
        kept = [value for value in field if value.name != name]
        del field[:]
        field.extend(kept)


def _may_be_one(source: ValueInfoProto, target: ValueInfoProto) -> bool:
    """Tell whether two values can be one tensor, as far as their types and shapes say."""
    a, b = source.type.tensor_type, target.type.tensor_type
    if a.elem_type != b.elem_type:
        return False
    if not a.HasField("shape") or not b.HasField("shape"):
        return True
    if len(a.shape.dim) != len(b.shape.dim):
        return False
    sizes = [(m.dim_value, n.dim_value) for m, n in zip(a.shape.dim, b.shape.dim, strict=True)]
    return all(m == n or not m or not n for m, n in sizes)
