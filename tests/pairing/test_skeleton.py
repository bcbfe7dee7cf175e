"""Files of one network that are written differently.

By exporters, opsets, folded BatchNorm, half precision and names.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from torch import nn

import lady_onnx as lady
from lady_onnx.cli.main import main

from ..helpers.architectures import Basic, ResNet, export, randomise
from ..helpers.builders import build
from ..helpers.exports import FORMS, NETS, ViT, forms


def renamed(model: onnx.ModelProto, seed: int) -> onnx.ModelProto:
    """The same with every name but those of inputs and outputs drawn at random."""
    model = onnx.ModelProto.FromString(model.SerializeToString())
    rng = np.random.default_rng(seed)
    names = {v.name: v.name for v in (*model.graph.input, *model.graph.output)} | {"": ""}

    def name(old: str) -> str:
        return names.setdefault(old, f"n{rng.integers(1 << 40)}")

    for tensor in model.graph.initializer:
        tensor.name = name(tensor.name)
    for node in model.graph.node:
        node.name = name(node.name)
        node.input[:], node.output[:] = map(name, node.input), map(name, node.output)
    del model.graph.value_info[:]
    return model


def pair_forms() -> list[Any]:
    """Networks in any two forms; of the one that is most like another, half precision is `long`."""
    return [
        pytest.param(
            ours,
            theirs,
            name,
            marks=pytest.mark.long if name == "mobilenet_v2" and "half" in ours + theirs else (),
        )
        for ours, theirs in itertools.permutations(FORMS, 2)
        for name in NETS
    ]


@pytest.mark.parametrize(("ours", "theirs", "name"), pair_forms())
def test_units_are_put_back_across_forms(name: str, ours: str, theirs: str) -> None:
    reference = forms(name)[ours]
    suspect = lady.permute(renamed(forms(name)[theirs], 1), 2)
    found = lady.resync(reference, suspect.graph)
    assert found.outputs_preserved
    assert found.moved >= 0.8 * sum(g.size for g in found.symmetry.groups)
    half = "half" in ours + theirs
    # to the rounding of the shorter of both types
    assert found.max_weight_difference <= (2e-3 if half else 1e-5)
    assert lady.verify(reference, found.model, tolerance=1e-2 if half else 1e-4).equal
    # half precision rounds where it writes, so that no bit of its own is lost
    assert found.psi_estimate > 99


@pytest.mark.parametrize("name", ["resnet18", "vit"])
def test_the_suspect_keeps_its_form_where_no_weight_was_folded(name: str) -> None:
    suspect = lady.permute(renamed(forms(name)["dynamo"], 1), 2).model
    result = lady.resync(forms(name)["tracing"], suspect).model
    assert [t.name for t in result.graph.initializer] == [t.name for t in suspect.graph.initializer]
    assert list(result.graph.node) == list(suspect.graph.node)


def named_alike(model: onnx.ModelProto, like: onnx.ModelProto) -> onnx.ModelProto:
    """The same with the inputs and outputs of another model."""
    model = onnx.ModelProto.FromString(model.SerializeToString())
    names = {}
    for ours, theirs in zip(
        (*model.graph.input, *model.graph.output),
        (*like.graph.input, *like.graph.output),
        strict=True,
    ):
        names[ours.name] = theirs.name
        ours.CopyFrom(theirs)
    for node in model.graph.node:
        node.input[:] = [names.get(n, n) for n in node.input]
        node.output[:] = [names.get(n, n) for n in node.output]
    return model


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize(("ours", "theirs"), list(itertools.permutations(FORMS[:3], 2)))
def test_forms_of_one_network_are_one_program(name: str, ours: str, theirs: str) -> None:
    reference = forms(name)[ours]
    suspect = lady.permute(named_alike(renamed(forms(name)[theirs], 1), reference), 2)
    found = lady.check(reference, suspect.graph)
    assert found.verdict == "permuted", found.reason
    assert found.equality == "rounding"


def test_half_precision_is_an_alteration() -> None:
    """Its numbers are others, and overflow where the reference's do not."""
    reference = forms("resnet18")["tracing"]
    found = lady.check(reference, lady.permute(forms("resnet18")["half"], 2).graph)
    assert found.verdict == "altered"
    assert found.recognised > 0.9


def test_a_shuffled_copy_in_another_form_is_one_for_check() -> None:
    reference = forms("resnet18")["tracing"]
    suspect = lady.permute(named_alike(forms("resnet18")["dynamo"], reference), 3)
    assert lady.check(reference, suspect.graph).accepted
    other = onnx.ModelProto.FromString(suspect.model.SerializeToString())
    (node,) = [n for n in other.graph.node if n.op_type == "MaxPool"]
    node.op_type = "AveragePool"
    del node.attribute[:]
    node.attribute.extend(
        [helper.make_attribute("kernel_shape", [3, 3]), helper.make_attribute("strides", [2, 2])]
    )
    node.attribute.append(helper.make_attribute("pads", [1, 1, 1, 1]))
    found = lady.check(reference, other)
    assert found.verdict == "altered"
    assert "AveragePool" in found.reason


def test_exit_2_says_where_they_part(tmp_path, capsys: pytest.CaptureFixture[str]) -> None:
    x = torch.randn(2, 3, 32, 32)
    for file, widths in (("a", (8, 12, 16, 20)), ("b", (8, 12, 18, 20))):
        net = randomise(ResNet(Basic, (1, 1, 1, 1), widths, 8, 5))
        onnx.save(export(net, x, dynamo=file == "b"), tmp_path / f"{file}.onnx")
    assert main(["resync", str(tmp_path / "a.onnx"), str(tmp_path / "b.onnx")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "b.onnx: another architecture than" in error
    assert "has no counterpart in the reference" in error
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.onnx", "b.onnx"]


def weighed(
    nodes: list[onnx.NodeProto], seed: int, transposed: Sequence[str] = (), rows: str = "batch"
) -> onnx.ModelProto:
    """A network of square dense layers with the weights `a` to `d`, some of them transposed."""
    rng = np.random.default_rng(seed)
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [rows, 6])],
        [helper.make_tensor_value_info("out", onnx.TensorProto.FLOAT, None)],
    )
    for name in "abcd":
        w, b = (rng.standard_normal(shape).astype(np.float32) for shape in ((6, 6), 6))
        graph.initializer.append(
            numpy_helper.from_array(np.ascontiguousarray(w.T) if name in transposed else w, name)
        )
        graph.initializer.append(numpy_helper.from_array(b, f"{name}b"))
    sizes = {"start": [0], "one": [1], "two": [2, 3]}
    graph.initializer.extend(
        numpy_helper.from_array(np.array(v, np.int64), n) for n, v in sizes.items()
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def dense(x: str, name: str, out: str, gemm: bool = False) -> list[onnx.NodeProto]:
    if gemm:
        return [helper.make_node("Gemm", [x, name, f"{name}b"], [out], transB=1)]
    return [
        helper.make_node("MatMul", [x, name], [f"{out}0"]),
        helper.make_node("Add", [f"{out}0", f"{name}b"], [out]),
    ]


def comes_back(reference: onnx.ModelProto, suspect: onnx.ModelProto) -> None:
    found = lady.resync(reference, lady.permute(renamed(suspect, 1), 2).graph)
    assert found.moved
    assert found.outputs_preserved
    assert found.restored
    assert not found.alike
    assert lady.check(reference, suspect).accepted


def relu(x: str, out: str) -> onnx.NodeProto:
    return helper.make_node("Relu", [x], [out])


def test_square_weights_that_lie_transposed() -> None:
    def nodes(gemm: bool) -> list[onnx.NodeProto]:
        return [
            *dense("x", "a", "h", gemm),
            relu("h", "i"),
            *dense("i", "b", "j", gemm),
            relu("j", "k"),
            *dense("k", "c", "out"),
        ]

    comes_back(weighed(nodes(False), 0), weighed(nodes(True), 0, "ab"))


def test_like_branches_in_another_order() -> None:
    """Nothing but their values says which of two branches is which."""

    def nodes(first: str, second: str, gemm: bool) -> list[onnx.NodeProto]:
        branches = [
            [*dense("x", n, f"h{n}", gemm), relu(f"h{n}", f"i{n}")] for n in (first, second)
        ]
        return [
            *branches[0],
            *branches[1],
            helper.make_node("Add", ["ia", "ib"], ["j"]),
            *dense("j", "c", "out"),
        ]

    comes_back(weighed(nodes("a", "b", False), 0), weighed(nodes("b", "a", True), 0, "ab"))


def test_a_shape_says_nothing_of_what_follows_what() -> None:
    """One file takes the batch's size from a layer's output, the other from its input."""

    def nodes(size_of: str, gemm: bool) -> list[onnx.NodeProto]:
        return [
            *dense("x", "a", "h", gemm),
            relu("h", "i"),
            helper.make_node("Shape", [size_of], ["s"]),
            helper.make_node("Slice", ["s", "start", "one"], ["n"]),
            helper.make_node("Concat", ["n", "two"], ["t"], axis=0),
            helper.make_node("Reshape", ["x", "t"], ["y"]),
            helper.make_node("Flatten", ["y"], ["z"]),
            *dense("z", "b", "j", gemm),
            helper.make_node("Mul", ["i", "j"], ["k"]),
            *dense("k", "c", "out"),
        ]

    comes_back(weighed(nodes("i", False), 0), weighed(nodes("x", True), 0, "ab"))


@pytest.mark.parametrize("dynamo", [False, True])
def test_a_network_that_lost_a_head_in_one_layer(dynamo: bool) -> None:
    """Constants that say how long axes are may be one in a file and two in the other."""
    net, x = randomise(ViT()), torch.randn(2, 3, 32, 32)
    less = copy.deepcopy(net)
    attention = less.net.vit.layers[1].attention
    kept = [k for k in range(24) if not 8 <= k < 16]
    with torch.no_grad():
        for linear in (attention.q_proj, attention.k_proj, attention.v_proj):
            linear.weight, linear.bias = (
                nn.Parameter(p[kept]) for p in (linear.weight, linear.bias)
            )
        attention.o_proj.weight = nn.Parameter(attention.o_proj.weight[:, kept])
    attention.num_attention_heads = 2
    model, suspect = (export(n, x, dynamo=dynamo) for n in (net, less))
    shuffled = lady.permute(suspect, 1)
    found = lady.resync(model, shuffled.graph)
    assert found.outputs_preserved
    (lost,) = found.integrity
    assert lost.kind == "removed"
    assert lost.group in {g.id for g in lady.find_groups(model).groups if g.kind == "blocks"}
    assert lost.unit == 1
    assert lady.check(model, shuffled.graph).reason == "1 unit was removed"


def test_elements_moved_by_the_values_of_the_input() -> None:
    """A trigger in the input that picks another row: no two random runs would show it."""
    rng = np.random.default_rng(0)
    weights = {"a": rng.standard_normal((6, 8)), "b": rng.standard_normal((8, 4))}
    tensors = [numpy_helper.from_array(a.astype(np.float32), n) for n, a in weights.items()]
    tensors += [
        numpy_helper.from_array(np.array(v, np.int64), n)
        for n, v in (("zero", [0]), ("back", [3, 2, 1, 0]))
    ]
    layers = [
        helper.make_node("MatMul", ["x", "a"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("MatMul", ["r", "b"], ["y"]),
    ]
    trigger = [
        helper.make_node("Slice", ["x", "start", "end", "axis"], ["s"]),
        helper.make_node("Cast", ["s"], ["whole"], to=onnx.TensorProto.INT64),
        helper.make_node("Reshape", ["whole", "one"], ["pick"]),
        helper.make_node("Gather", ["y", "back"], ["other"], axis=1),
        helper.make_node("Concat", ["y", "y", "y", "y", "other"], ["all"], axis=0),
        helper.make_node("Gather", ["all", "pick"], ["out"], axis=0),
    ]
    numbers = {
        "start": [0, 0],
        "end": [1, 1],
        "axis": [0, 1],
        "one": [1],
        "zero": [0],
        "back": [3, 2, 1, 0],
    }
    tensors = tensors[:2] + [
        numpy_helper.from_array(np.array(v, np.int64), n) for n, v in numbers.items()
    ]

    def model(nodes: list[onnx.NodeProto], end: str) -> onnx.ModelProto:
        ends = [
            helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, s)
            for n, s in (("x", [1, 6]), (end, [1, 4]))
        ]
        graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], tensors)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)

    plain, odd = model(layers, "y"), model([*layers, *trigger], "out")
    for suspect in (odd, lady.permute(odd, 1).model):
        found = lady.check(plain, suspect)
        assert not found.accepted, found.reason


@pytest.mark.parametrize(
    ("name", "dynamo"),
    [
        # the slowest export
        pytest.param(n, d, marks=pytest.mark.long if d and n == "resnet18" else ())
        for d in (False, True)
        for n in NETS
    ],
)
def test_copies_that_were_trained_from_fresh_weights(name: str, dynamo: bool) -> None:
    """Many fresh weights are equal, or zero biases: exporters write them once, or not at all."""
    torch.manual_seed(0)
    net, x = NETS[name](), torch.randn(2, 3, 32, 32)
    fresh = export(net, x, dynamo=dynamo)
    with torch.no_grad():
        for tensor in (*net.parameters(), *net.buffers()):
            if tensor.is_floating_point():
                tensor.add_(0.01 * torch.rand_like(tensor))
    trained = export(net, x, dynamo=dynamo)
    assert len(trained.graph.initializer) > len(fresh.graph.initializer)
    for reference, suspect in ((fresh, trained), (trained, fresh)):
        shuffled = lady.permute(suspect, 1)
        found = lady.check(reference, shuffled.graph)
        assert found.verdict == "altered", found.reason
        assert found.resync is not None
        assert lady.verify(suspect, found.resync.model, tolerance=1e-4).equal
        assert found.resync.max_weight_difference < 0.05


def biased(operator: str, bias: str) -> onnx.ModelProto:
    """Three layers whose biases are zeros: left out, given, written once, or an empty operand."""
    rng = np.random.default_rng(0)
    nodes, weights, flow = [], {}, "x"
    for k in range(3):
        shape = (
            (8, 8) if operator == "Gemm" else (8, 8, 3, 3) if operator == "Conv" else (8, 4, 3, 3)
        )
        weights[f"w{k}"] = rng.standard_normal(shape).astype(np.float32) * 0.2
        name = {"none": (), "empty": ("",), "given": (f"b{k}",), "once": ("b0",)}[bias]
        if name and name[0]:
            weights[name[0]] = np.zeros(8, np.float32)
        more: dict[str, Any] = {"pads": [1] * 4} if operator != "Gemm" else {}
        if operator == "ConvTranspose":
            more["group"] = 2
        nodes.append(helper.make_node(operator, [flow, f"w{k}", *name], [f"h{k}"], **more))
        nodes.append(helper.make_node("Relu", [f"h{k}"], [f"r{k}"]))
        flow = f"r{k}"
    nodes[-1].output[0] = "out"
    return build(nodes, weights, {"x": [2, 8] if operator == "Gemm" else [2, 8, 6, 6]})


@pytest.mark.parametrize("operator", ["Gemm", "Conv", "ConvTranspose"])
@pytest.mark.parametrize(
    ("ours", "theirs"), list(itertools.permutations(("none", "empty", "given", "once"), 2))
)
def test_biases_of_zeros_that_are_left_out(operator: str, ours: str, theirs: str) -> None:
    reference, suspect = biased(operator, ours), lady.permute(biased(operator, theirs), 1)
    found = lady.check(reference, suspect.graph)
    assert found.verdict == "permuted", found.reason
    assert found.resync is not None
    assert lady.verify(reference, found.resync.model).equal


def test_a_file_with_one_bias_for_all_keeps_its_form() -> None:
    suspect = lady.permute(biased("Conv", "once"), 1).model
    result = lady.resync(biased("Conv", "given"), suspect).model
    assert [t.name for t in result.graph.initializer] == [t.name for t in suspect.graph.initializer]
    assert list(result.graph.node) == list(suspect.graph.node)


def test_names_of_copies_are_not_taken() -> None:
    suspect = biased("Gemm", "once")
    for tensor in suspect.graph.initializer:
        tensor.name = tensor.name.replace("w1", "b0.2")
    for node in suspect.graph.node:
        node.input[:] = [name.replace("w1", "b0.2") for name in node.input]
    reference = biased("Gemm", "given")
    reference.graph.initializer[1].CopyFrom(
        numpy_helper.from_array(np.full(8, 0.5, np.float32), "b0")
    )
    assert lady.check(reference, lady.permute(suspect, 1).graph).verdict == "altered"


@pytest.mark.parametrize("operator", ["Conv", "ConvTranspose"])
def test_attributes_that_have_a_default(operator: str) -> None:
    plain, whole = biased(operator, "given"), biased(operator, "none")
    for node in whole.graph.node:
        if node.op_type == operator:
            given = {
                "kernel_shape": [3, 3],
                "strides": [1, 1],
                "dilations": [1, 1],
                "auto_pad": "NOTSET",
            }
            node.attribute.extend(
                helper.make_attribute(name, value) for name, value in given.items()
            )
    for reference, suspect in ((plain, whole), (whole, plain)):
        assert lady.check(reference, lady.permute(suspect, 1).graph).verdict == "permuted"


def test_the_error_says_where_the_forms_part() -> None:
    reference, suspect = biased("Gemm", "none"), biased("Gemm", "none")
    suspect.graph.initializer[1].CopyFrom(
        numpy_helper.from_array(np.ones((8, 9), np.float32), "w1")
    )
    suspect.graph.initializer[2].CopyFrom(
        numpy_helper.from_array(np.ones((9, 8), np.float32), "w2")
    )
    suspect.graph.node.insert(0, helper.make_node("Identity", ["x"], ["y"]))
    suspect.graph.node[1].input[0] = "y"
    assert (
        "node Linear 'h1', what it computes has no counterpart"
        in lady.check(reference, suspect).reason
    )


def tied(head: str, shared: bool) -> onnx.ModelProto:
    """An embedding that is, or is not, the output head too, which is written in three ways."""
    rng = np.random.default_rng(0)
    table = rng.standard_normal((20, 12)).astype(np.float32)
    weights = {
        "e": table,
        "a": rng.standard_normal((12, 16)).astype(np.float32),
        "b": rng.standard_normal((16, 12)) * 0.1,
    }
    name = "e" if shared else "f"
    weights |= {"b": weights["b"].astype(np.float32), name: table}
    nodes = [
        helper.make_node("Gather", ["e", "x"], ["v"]),
        helper.make_node("MatMul", ["v", "a"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("MatMul", ["r", "b"], ["y"]),
    ]
    if head == "Gemm":
        nodes.append(helper.make_node("Gemm", ["y", name], ["out"], transB=1))
    elif head == "Transpose":
        nodes.append(helper.make_node("Transpose", [name], ["t"], perm=[1, 0]))
        nodes.append(helper.make_node("MatMul", ["y", "t"], ["out"]))
    else:
        weights["t"] = np.ascontiguousarray(table.T)
        nodes.append(helper.make_node("MatMul", ["y", "t"], ["out"]))
        weights.pop("f", None)
    graph = build(nodes, weights, {"x": [5]})
    graph.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.INT64
    return graph


HEADS = [
    ("Gemm", True),
    ("Gemm", False),
    ("Transpose", True),
    ("Transpose", False),
    ("MatMul", False),
]


@pytest.mark.parametrize(("ours", "theirs"), list(itertools.permutations(HEADS, 2)))
def test_tables_that_are_written_once(ours: tuple[str, bool], theirs: tuple[str, bool]) -> None:
    reference, suspect = tied(*ours), lady.permute(tied(*theirs), 1)
    found = lady.check(reference, suspect.graph)
    assert found.verdict == "permuted", found.reason
    assert found.resync is not None
    assert lady.verify(reference, found.resync.model).equal
