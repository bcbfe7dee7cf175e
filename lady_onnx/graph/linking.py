"""Several files as one graph: what one gives is what another is given."""

from __future__ import annotations

from collections.abc import Sequence

import onnx.compose
from onnx import ModelProto, ValueInfoProto, helper

from ..errors import LadyError
from .functions import inline_functions
from .model import Graph


def link_graphs(graphs: Sequence[Graph], links: Sequence[tuple[str, str]]) -> Graph:
    """One graph of several, in which every name is preceded by its file's, as `encoder/weight`.

    Args:
        graphs: the parts, from files with different names.
        links: `(output, input)`: names in the parts, alone where only one part has them, else with their file's.

    A linked output is taken to go to the inputs linked to it, and nowhere else. Raises LadyError where the parts do
    not fit.
    """
    stems = [g.path.stem if g.path else f"part{k}" for k, g in enumerate(graphs)]
    if len(set(stems)) < len(stems):
        raise LadyError(
            f"{graphs[0].name}: another linked file has the same name; rename one of them"
        )
    whole = ModelProto(ir_version=max(g.model.ir_version for g in graphs))
    whole.graph.name = "+".join(stems)
    opsets: dict[str, int] = {}
    for stem, graph in zip(stems, graphs, strict=True):
        part = graph.to_model("")
        if part.functions:
            part = inline_functions(part)
        for entry in part.opset_import:
            if opsets.setdefault(entry.domain or "ai.onnx", entry.version) != entry.version:
                what = f"operator set {entry.version}, {graphs[0].name} has {opsets[entry.domain or 'ai.onnx']}"
                raise LadyError(f"{graph.name}: {what}; convert one with onnx.version_converter")
        part = onnx.compose.add_prefix(part, f"{stem}/")
        for name in ("node", "initializer", "sparse_initializer", "input", "output", "value_info"):
            getattr(whole.graph, name).extend(getattr(part.graph, name))
    whole.opset_import.extend(
        helper.make_opsetid("" if d == "ai.onnx" else d, v) for d, v in opsets.items()
    )
    outputs = {o.name: o for o in whole.graph.output}
    inputs = {i.name: i for i in whole.graph.input}
    for given, taken in links:
        source, target = (
            _find(outputs, given, "output", graphs),
            _find(inputs, taken, "input", graphs),
        )
        if not _fit(source, target):
            what = f"output '{source.name}' does not fit input '{target.name}'"
            raise LadyError(f"{graphs[0].name}: {what}: they differ in type or shape; link others")
        if not any(i.name == target.name for i in whole.graph.input):
            raise LadyError(
                f"{graphs[0].name}: input '{target.name}' is linked twice; leave one link out"
            )
        whole.graph.node.append(
            helper.make_node("Identity", [source.name], [target.name], f"link {target.name}")
        )
        for field, name in ((whole.graph.input, target.name), (whole.graph.output, source.name)):
            kept = [v for v in field if v.name != name]
            del field[:]
            field.extend(kept)
    return Graph(whole)


def _find(
    known: dict[str, ValueInfoProto], name: str, what: str, graphs: Sequence[Graph]
) -> ValueInfoProto:
    found = (
        [known[name]]
        if name in known
        else [v for k, v in known.items() if k.partition("/")[2] == name]
    )
    if len(found) != 1:
        why = "no linked file has" if not found else "several linked files have"
        raise LadyError(
            f"{graphs[0].name}: {why} an {what} '{name}'; the {what}s are {', '.join(sorted(known))}"
        )
    return found[0]


def _fit(source: ValueInfoProto, target: ValueInfoProto) -> bool:
    """Can these be one tensor, as far as they say?"""
    a, b = source.type.tensor_type, target.type.tensor_type
    if a.elem_type != b.elem_type:
        return False
    if not a.HasField("shape") or not b.HasField("shape"):
        return True
    if len(a.shape.dim) != len(b.shape.dim):
        return False
    sizes = [(m.dim_value, n.dim_value) for m, n in zip(a.shape.dim, b.shape.dim, strict=True)]
    return all(m == n or not m or not n for m, n in sizes)
