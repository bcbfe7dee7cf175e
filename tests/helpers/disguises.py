"""Honest rewrites of a model: another file, the same outputs up to rounding."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import onnx
import onnx.version_converter
import onnxruntime
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper

import lady_onnx as lady

from .dressing import is_outside
from .messages import NotPossibleError, Random, copied, pick

Disguise = Callable[[ModelProto, Random], ModelProto]


def _new_name(model: ModelProto, stem: str) -> str:
    text = model.SerializeToString()
    k = 0
    while f"{stem}{k}".encode() in text:
        k += 1
    return f"{stem}{k}"


def _graphs(model: ModelProto) -> list[GraphProto]:
    """The main graph and all bodies in it."""
    found = [model.graph]
    for graph in found:
        found += [a.g for n in graph.node for a in n.attribute if a.HasField("g")]
    return found


def insert_identity(model: ModelProto, rng: Random) -> ModelProto:
    graph = pick(rng, [g for g in _graphs(model) if g.node])
    spots = [(k, i) for k, n in enumerate(graph.node) for i, name in enumerate(n.input) if name]
    k, i = pick(rng, spots)
    name = _new_name(model, "same")
    source = graph.node[k].input[i]
    graph.node[k].input[i] = name
    graph.node.insert(k, helper.make_node("Identity", [source], [name]))
    return model


def rename(model: ModelProto, rng: Random) -> ModelProto:
    """Gives every inner value of the main graph, and every node, another name."""
    graph = model.graph
    kept = {v.name for v in (*graph.input, *graph.output)}
    names = {o for n in graph.node for o in n.output if o} | {t.name for t in graph.initializer}
    if is_outside(model):
        raise NotPossibleError
    new = dict(
        zip(sorted(names - kept), (f"v{k}" for k in rng.permutation(len(names))), strict=False)
    )
    if set(new.values()) & (names | kept | _inner_names(graph)):
        raise NotPossibleError
    _rename(graph, new)
    for tensor in graph.initializer:
        tensor.name = new.get(tensor.name, tensor.name)
    for value in graph.value_info:
        value.name = new.get(value.name, value.name)
    for k, node in enumerate(graph.node):
        node.name = f"n{k}"
    return model


def _inner_names(graph: GraphProto) -> set[str]:
    found: set[str] = set()
    for node in graph.node:
        for a in node.attribute:
            if a.HasField("g"):
                found |= {v.name for v in a.g.input} | {o for n in a.g.node for o in n.output}
                found |= {t.name for t in a.g.initializer} | _inner_names(a.g)
    return found


def _rename(graph: GraphProto, new: dict[str, str]) -> None:
    for node in graph.node:
        node.input[:] = [new.get(i, i) for i in node.input]
        node.output[:] = [new.get(o, o) for o in node.output]
        for a in node.attribute:
            if a.HasField("g"):
                own = {v.name for v in a.g.input} | {t.name for t in a.g.initializer}
                own |= {o for n in a.g.node for o in n.output}
                _rename(a.g, {k: v for k, v in new.items() if k not in own})
                for value in a.g.output:
                    if value.name not in own:
                        value.name = new.get(value.name, value.name)


def reorder(model: ModelProto, rng: Random) -> ModelProto:
    """The nodes of the main graph in another order that still runs."""
    nodes = [copied(n) for n in model.graph.node]
    made = {o for n in nodes for o in n.output if o}
    done: set[str] = set()
    order: list[NodeProto] = []
    while nodes:
        ready = [n for n in nodes if not (_read(n) & made) - done]
        node = pick(rng, ready)
        nodes.remove(node)
        order.append(node)
        done |= set(node.output)
    del model.graph.node[:]
    model.graph.node.extend(order)
    tensors = [copied(t) for t in model.graph.initializer]
    del model.graph.initializer[:]
    model.graph.initializer.extend(tensors[k] for k in rng.permutation(len(tensors)))
    return model


def _read(node: NodeProto) -> set[str]:
    """All that a node reads, its bodies included."""
    found = set(node.input)
    for a in node.attribute:
        if a.HasField("g"):
            found |= {i for n in a.g.node for i in _read(n)} | {v.name for v in a.g.output}
    return found - {""}


def make_constants(model: ModelProto, rng: Random) -> ModelProto:
    """Some weights become constants, and constants weights."""
    graph = model.graph
    taken = {v.name for v in graph.input}
    changed = False
    for tensor in list(graph.initializer):
        if (
            rng.random() < 0.5
            and tensor.name not in taken
            and tensor.data_location != TensorProto.EXTERNAL
        ):
            graph.node.insert(
                0, helper.make_node("Constant", [], [tensor.name], value=copied(tensor))
            )
            graph.initializer.remove(tensor)
            changed = True
    for node in [n for n in graph.node if n.op_type == "Constant"][: 0 if changed else None]:
        if rng.random() < 0.7 and node.attribute[0].type == AttributeProto.TENSOR:
            graph.initializer.append(copied(node.attribute[0].t))
            graph.initializer[-1].name = node.output[0]
            graph.node.remove(node)
            changed = True
    if not changed:
        raise NotPossibleError
    return model


def unshare(model: ModelProto, rng: Random) -> ModelProto:
    """A weight of its own for every operand that reads a shared one."""
    graph = model.graph
    tensors = {t.name: t for t in graph.initializer}
    uses = [(n, i) for n in graph.node for i, name in enumerate(n.input) if name in tensors]
    seen: set[str] = set()
    changed = False
    for node, i in uses:
        if node.input[i] in seen:
            tensor = copied(tensors[node.input[i]])
            tensor.name = _new_name(model, "again")
            graph.initializer.append(tensor)
            node.input[i] = tensor.name
            changed = True
        seen.add(node.input[i])
    if not changed:
        raise NotPossibleError
    return model


def share(model: ModelProto, rng: Random) -> ModelProto:
    """One weight for all that are equal."""
    graph = model.graph
    first: dict[bytes, str] = {}
    new: dict[str, str] = {}
    for tensor in graph.initializer:
        plain = copied(tensor)
        plain.ClearField("name")
        new[tensor.name] = first.setdefault(
            plain.SerializeToString(deterministic=True), tensor.name
        )
    if all(a == b for a, b in new.items()):
        raise NotPossibleError
    for node in graph.node:
        node.input[:] = [new.get(i, i) for i in node.input]
    return model


def write_defaults(model: ModelProto, rng: Random) -> ModelProto:
    """Attributes that have their default are left out where they stand, and written elsewhere."""
    versions = {o.domain: o.version for o in model.opset_import}
    changed = False
    for graph in _graphs(model):
        for node in graph.node:
            try:
                schema = onnx.defs.get_schema(
                    node.op_type, versions.get(node.domain, 1), node.domain
                )
            except onnx.defs.SchemaError:
                continue
            given = {a.name: a for a in node.attribute}
            for name, attribute in sorted(schema.attributes.items()):
                default = attribute.default_value
                if not default.name:
                    continue
                if name not in given and rng.random() < 0.5:
                    node.attribute.append(copied(default))
                    changed = True
                elif name in given and _same(given[name], default):
                    node.attribute.remove(given[name])
                    changed = True
    if not changed:
        raise NotPossibleError
    return model


def _same(a: AttributeProto, b: AttributeProto) -> bool:
    return (
        a.type == b.type
        and not a.ref_attr_name
        and helper.get_attribute_value(a) == helper.get_attribute_value(b)
    )


def permute(model: ModelProto, rng: Random) -> ModelProto:
    """Units in another order."""
    return lady.permute(model, int(rng.integers(1000))).model


def rescale(model: ModelProto, rng: Random) -> ModelProto:
    """Units multiplied by factors that cancel."""
    return lady.attack(model, "rescale", 0.5, seed=int(rng.integers(1000))).model


def optimise(model: ModelProto, rng: Random) -> ModelProto:
    """Saved by onnxruntime's optimiser."""
    levels = onnxruntime.GraphOptimizationLevel
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = pick(
        rng, [levels.ORT_ENABLE_BASIC, levels.ORT_ENABLE_EXTENDED, levels.ORT_ENABLE_ALL]
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.onnx"
        options.optimized_model_filepath = str(path)
        onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        return onnx.load(path)


def convert(model: ModelProto, rng: Random) -> ModelProto:
    """In another version of the operators."""
    old = next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
    return onnx.version_converter.convert_version(
        model, int(pick(rng, [v for v in (old - 1, old + 1, old + 2, 20) if v != old]))
    )


DISGUISES: tuple[Disguise, ...] = (
    *(
        insert_identity,
        insert_identity,
        insert_identity,
        rename,
        reorder,
        make_constants,
        unshare,
        share,
        write_defaults,
    ),
    *(permute, permute, rescale, rescale, optimise, convert),
)


def disguise(
    model: ModelProto, rng: Random, most: int = 3, ways: Sequence[Disguise] = DISGUISES
) -> tuple[ModelProto, list[str]]:
    """A model under one to `most` rewrites, and their names; fewer where they are not possible."""
    names: list[str] = []
    for _ in range(int(rng.integers(1, most + 1))):
        way = pick(rng, ways)
        try:
            model = way(copied(model), rng)
        except Exception:  # noqa: BLE001 - a rewrite that fails is none
            continue
        names.append(getattr(way, "__name__", "rewrite"))
    return model, names
