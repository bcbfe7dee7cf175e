"""States: which outputs are fed back as inputs, by their names and as given."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from lady_onnx.errors import LadyError
from lady_onnx.graph.loading import load_graph, load_pair
from lady_onnx.graph.shapes import choose_input_shapes, find_sums
from lady_onnx.graph.states import State

Value = tuple[str, list]


def make_model(inputs: list[Value], outputs: list[Value], initial: str = "") -> onnx.ModelProto:
    """A model with these inputs and outputs; `initial` begins a recurrent layer, if it is given."""
    nodes = [helper.make_node("Identity", [inputs[0][0]], [name]) for name, _ in outputs]
    weights = []
    if initial:
        weights = [
            numpy_helper.from_array(np.ones(shape, np.float32), name)
            for name, shape in (("w", (1, 12, 4)), ("r", (1, 12, 4)), ("x", (1, 1, 4)))
        ]
        weights.append(numpy_helper.from_array(np.array([0, 1]), "axes"))
        nodes.append(helper.make_node("Squeeze", [initial], ["squeezed"]))
        nodes.append(helper.make_node("Unsqueeze", ["squeezed", "axes"], ["first"]))
        nodes.append(helper.make_node("GRU", ["x", "w", "r", "", "", "first"], ["all"]))
    sides = (
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n, shape in side]
        for side in (inputs, outputs)
    )
    graph = helper.make_graph(nodes, "states", *sides, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


CACHE = ["batch", 2, "past", 8]
GROWN = ["batch", 2, "past + 1", 8]


@pytest.mark.parametrize(
    ("taken", "made"),
    [
        ("past_key_values.0.key", "present.0.key"),
        ("past_key_values.3.decoder.value", "present.3.decoder.value"),
        ("past_key_self_1", "present_key_self_1"),
        ("past_0", "present_0"),
        ("past_conv.2", "present_conv.2"),
        ("cache_last_channel", "cache_last_channel_next"),
        ("cached_key_4", "new_cached_key_4"),
        ("past_key_values_0_key", "present_key_values_0_key"),
    ],
)
def test_caches_are_known_by_their_names(taken: str, made: str) -> None:
    graph = load_graph(
        make_model([("x", ["batch", 4]), (taken, CACHE)], [("y", [1]), (made, GROWN)])
    )
    assert graph.states == (State(made, taken),)


@pytest.mark.parametrize(
    ("taken", "made"),
    [("state", "stateN"), ("h", "hn"), ("h0", "hn"), ("h_0", "h_n"), ("c_in", "c_out")]
    + [("state", "next_state"), ("input_states_1", "output_states_1"), ("hidden", "hidden_out")],
)
def test_recurrent_states_need_a_recurrent_layer(taken: str, made: str) -> None:
    """A model of the world has an input `state` and an output `next_state`: both are answers."""
    inputs, outputs = [("x", ["batch", 4]), (taken, [1, 1, 4])], [("y", [1]), (made, [1, 1, 4])]
    assert load_graph(make_model(inputs, outputs, initial=taken)).states == (State(made, taken),)
    assert load_graph(make_model(inputs, outputs)).states == ()


@pytest.mark.parametrize(
    ("taken", "made"),
    [("past_actions", "next_actions"), ("past_frames", "present_frames"), ("cache", "output")]
    + [("past", "output"), ("past_1", "1"), ("cached_features", "features")]
    + [("input", "output"), ("sample", "out_sample"), ("z", "z_out"), ("image_in", "image_out")]
    + [("hidden_states", "hidden_states_out"), ("past_values", "future_values")]
    + [("past_key_values.0.key", "present.1.key"), ("past_key_values.0.key", "present.0.value")],
)
def test_answers_are_no_states(taken: str, made: str) -> None:
    model = make_model([("x", [1, 4]), (taken, CACHE)], [("y", [1]), (made, CACHE)], initial=taken)
    assert load_graph(model).states == ()


def test_a_state_has_one_type_and_shape() -> None:
    inputs = [("x", [1, 4]), ("past_0", CACHE)]
    assert load_graph(make_model(inputs, [("present_0", ["b", 2, "t", 9])])).states == ()
    other = make_model(inputs, [("present_0", GROWN)])
    other.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT16
    assert load_graph(other).states == ()


def test_two_outputs_of_one_name_are_no_states() -> None:
    outputs = [("present_0", GROWN), ("new_present_0", GROWN)]
    assert load_graph(make_model([("x", [1, 4]), ("past_0", CACHE)], outputs)).states == ()


def test_states_may_be_given_and_denied() -> None:
    model = make_model([("x", [1, 4]), ("past_0", CACHE), ("a", CACHE)], [("present_0", GROWN)])
    assert load_graph(model, ["none"]).states == ()
    assert load_graph(model, ["present_0=a"]).states == (State("present_0", "a"),)
    for given, why in (
        ("present_0", "state 'present_0' is no pair; give OUTPUT=INPUT, or none"),
        ("prezent_0=past_0", "no output 'prezent_0'; did you mean 'present_0'"),
        ("present_0=b", "no input 'b'; give one of x, past_0, a"),
        ("present_0=x", "another type or shape than input 'x'"),
    ):
        with pytest.raises(LadyError, match=why):
            load_graph(model, [given])
    with pytest.raises(LadyError, match="output 'present_0' is given as the state of two inputs"):
        load_graph(model, ["present_0=past_0", "present_0=a"])
    two = make_model([("x", [1, 4]), ("past_0", CACHE)], [("present_0", GROWN), ("b", GROWN)])
    with pytest.raises(LadyError, match="input 'past_0' is given two outputs as its state"):
        load_graph(two, ["present_0=past_0", "b=past_0"])


def test_a_suspect_has_the_states_of_the_reference() -> None:
    """What the suspect calls its inputs is no matter."""
    reference = make_model([("x", [1, 4]), ("past_0", CACHE)], [("y", [1]), ("present_0", GROWN)])
    suspect = make_model([("x", [1, 4]), ("p", CACHE)], [("y", [1]), ("q", GROWN)])
    ours, theirs = load_pair(reference, suspect)
    assert (ours.states, theirs.states) == ((State("present_0", "past_0"),), (State("q", "p"),))
    ours, theirs = load_pair(suspect, reference)
    assert (ours.states, theirs.states) == ((), ())


def test_lengths_that_are_sums_follow_from_others() -> None:
    inputs = [("ids", ["b", "s"]), ("mask", ["b", "total"]), ("past_0", ["b", 2, "past", 8])]
    graph = load_graph(make_model(inputs, [("present_0", ["b", 2, "total", 8])]))
    assert find_sums(graph) == {"total": ("past", "s")}
    shapes, _ = next(choose_input_shapes(graph, (16,)))
    assert shapes == {"ids": (2, 16), "mask": (2, 32), "past_0": (2, 2, 16, 8)}
    assert graph.unit_axes == {"past_0": (1, 3)}


def test_a_length_that_states_alone_have_is_one_of_units() -> None:
    inputs = [("ids", ["b", "s"]), ("past_0", ["b", 2, "past", "width"])]
    graph = load_graph(make_model(inputs, [("present_0", ["b", 2, "total", "width"])]))
    assert graph.unit_axes == {"past_0": (1, 3)}
    inputs[0] = ("ids", ["b", "width"])
    graph = load_graph(make_model(inputs, [("present_0", ["b", 2, "total", "width"])]))
    assert graph.unit_axes == {"past_0": (1,)}
