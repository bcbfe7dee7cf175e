"""States: outputs of a graph that are fed back as its inputs.

The keys and values of a cache, or the state of a recurrent layer, are not the model's answer. Their
order may change, as long as it changes in the output and in the input alike.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import zip_longest

from onnx import GraphProto, NodeProto, TensorShapeProto, ValueInfoProto

from ..errors import LadyError, UnknownNameError, suggest_name
from ..vocabulary import structure
from .nodes import list_bodies, list_repeated

CACHE_WORDS = frozenset({"cache", "cached", "caches"})
"""Words of caches. The names of the input and of the output each have one."""
PARTS_OF_CACHES = frozenset(
    {"key", "keys", "value", "k", "v", "kv", "conv", "ssm", "recurrent", "state", "states"}
    | {"self", "cross", "decoder", "encoder", "attn"}
)
"""Words beside past and present in names of states.

Forecasters and policies have a past and a present as well, and those are their answers.
"""
RECURRENT_WORDS = frozenset({"state", "states", "h", "c", "hidden", "cell", "hn", "cn"})
"""Words of names that states share with other values.

A model of the world has an input `state` and an output `next_state`, and both are its answers. So
a state with such a name has to reach a recurrent operator.
"""
DIRECTION_WORDS = frozenset(
    {"past", "present", "prev", "previous", "next", "new", "updated", "in", "out", "n"}
    | {"input", "output", "inputs", "outputs", "initial", "init", "cached", "caches", "cache"}
)
"""Words that say which side of a step a state stands on; what is left is the name of the state."""
PHRASES = (
    (re.compile(r"(past|present)_key_values?(?![a-z])"), r"\1"),
    # PyTorch's own names of the states of recurrent layers
    (re.compile(r"(?<![a-z])([hc])_?[0n](?![a-z0-9])"), r"\1"),
)
"""Ways of writing that are brought to one before a name is cut into words."""
WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
MAX_SHOWN_NAMES = 8
"""The number of names that a message lists."""
NO_STATES = "none"
"""What is given in place of a state where names of states are not to be believed."""


@dataclass(frozen=True)
class State:
    """An output of a graph that is fed back as an input.

    Attributes:
        output: the output's name.
        input: the input's name.
    """

    output: str
    input: str


def find_states(graph: GraphProto, inputs: Sequence[ValueInfoProto]) -> tuple[State, ...]:
    """Find the states of a graph by the names that exporters give them, by type and by shape.

    Args:
        graph: the graph.
        inputs: the inputs that no initializer stands for.

    Returns:
        The states, in the order of the outputs.
    """
    by_stem: dict[tuple[str, ...], list[ValueInfoProto]] = {}
    for value in inputs:
        by_stem.setdefault(_take_stem(value.name), []).append(value)
    found = []
    for output in graph.output:
        stem = _take_stem(output.name)
        fitting = [v for v in by_stem.get(stem, ()) if is_fitting(v, output)]
        if len(fitting) == 1 and _is_named_as_state(graph, fitting[0], output):
            found.append(State(output.name, fitting[0].name))
    # of two outputs that would be one input, neither is known to be its state
    taken = [s.input for s in found]
    return tuple(s for s in found if taken.count(s.input) == 1)


def read_given_states(
    where: str, graph: GraphProto, inputs: Sequence[ValueInfoProto], given: Iterable[str]
) -> tuple[State, ...]:
    """Return the states that somebody gives as `OUTPUT=INPUT`.

    Args:
        where: the file, for messages.
        graph: the graph.
        inputs: the inputs that no initializer stands for.
        given: the pairs; `NO_STATES` among them is passed over.

    Raises:
        LadyError: a pair is malformed, or the two do not fit.
        UnknownNameError: the graph has no such output or input.
    """
    ours, theirs = ({v.name: v for v in side} for side in (graph.output, inputs))
    states: dict[str, State] = {}
    for text in given:
        if text == NO_STATES:
            continue
        output, is_pair, source = text.partition("=")
        if not is_pair:
            raise LadyError(
                f"{where}: state '{text}' is no pair; give OUTPUT=INPUT, or {NO_STATES}"
            )
        for name, known, what in ((output, ours, "output"), (source, theirs, "input")):
            if name not in known:
                more = ", ..." if len(known) > MAX_SHOWN_NAMES else ""
                shown = ", ".join(list(known)[:MAX_SHOWN_NAMES]) + more
                hint = f"{suggest_name(name, known)}give one of {shown}"
                raise UnknownNameError(f"{where}: no {what} '{name}'; {hint}")
        if not is_fitting(theirs[source], ours[output]):
            raise LadyError(
                f"{where}: output '{output}' has another type or shape than input '{source}'; "
                "a state is fed back as it is"
            )
        if source in states and states[source].output != output:
            raise LadyError(
                f"{where}: input '{source}' is given two outputs as its state; give one"
            )
        states[source] = State(output, source)
    for name in list_repeated([s.output for s in states.values()]):
        raise LadyError(f"{where}: output '{name}' is given as the state of two inputs; give one")
    return tuple(states.values())


def is_fitting(source: ValueInfoProto, output: ValueInfoProto) -> bool:
    """Tell whether an output may be fed back as an input, by type and shape.

    Symbolic lengths may be any, and an output may be declared without a shape.
    """
    ours, theirs = source.type.tensor_type, output.type.tensor_type
    if not ours.HasField("shape") or ours.elem_type != theirs.elem_type:
        return False
    if not theirs.HasField("shape"):
        return True
    here, there = ours.shape.dim, theirs.shape.dim
    return len(here) == len(there) and all(
        a.dim_value == b.dim_value or a.dim_value <= 0 or b.dim_value <= 0
        for a, b in zip(here, there, strict=True)
    )


def list_unit_axes(
    graph: GraphProto, inputs: Sequence[ValueInfoProto], states: Sequence[State]
) -> Mapping[str, tuple[int, ...]]:
    """List the axes of states along which units may lie.

    Such an axis has one length in the input and in the output. A length that other inputs or
    outputs have too is one of a batch, a sequence or a picture: no units lie along it.

    Args:
        graph: the graph.
        inputs: the inputs that no initializer stands for.
        states: its states.

    Returns:
        By input the axes, counted from the front.
    """
    ours, theirs = ({v.name: v for v in side} for side in (graph.output, inputs))
    fed = {n for s in states for n in (s.input, s.output)}
    known_elsewhere = {
        d.dim_param
        for v in (*inputs, *graph.output)
        if v.name not in fed
        for d in v.type.tensor_type.shape.dim
    }
    axes: dict[str, tuple[int, ...]] = {}
    for state in states:
        there = ours[state.output].type.tensor_type.shape.dim
        pairs = zip_longest(theirs[state.input].type.tensor_type.shape.dim, there)
        axes[state.input] = tuple(
            axis
            for axis, (here, dim) in enumerate(pairs)
            if _is_of_units(here, dim, known_elsewhere)
        )
    return axes


def _is_of_units(
    here: TensorShapeProto.Dimension, there: TensorShapeProto.Dimension | None, elsewhere: Set[str]
) -> bool:
    """Tell whether the length of an axis, in an input and in its output, is that of units."""
    if here.dim_value > 0:
        # the output's length may be computed: the walk compares it
        return there is None or there.dim_value in (0, here.dim_value)
    name = here.dim_param
    return bool(name and there is not None and there.dim_param == name and name not in elsewhere)


def _take_stem(name: str) -> tuple[str, ...]:
    """Return the words of a name but for those that say which side of a step it stands on."""
    return tuple(w for w in _list_words(name) if w not in DIRECTION_WORDS)


def _list_words(name: str) -> list[str]:
    """Cut a name into its words, in lower case, and its numbers."""
    for pattern, plain in PHRASES:
        name = pattern.sub(plain, name)
    return [w.lower() for w in WORD.findall(name)]


def _is_named_as_state(graph: GraphProto, source: ValueInfoProto, output: ValueInfoProto) -> bool:
    """Tell whether the names of an input and an output that have one stem are those of a state."""
    ours, theirs = set(_list_words(source.name)), set(_list_words(output.name))
    words = ours | theirs
    stem = _take_stem(output.name)
    if ours & CACHE_WORDS and theirs & CACHE_WORDS:
        return bool(stem)
    if "past" in ours and "present" in theirs:
        named = {w for w in stem if not w.isdigit()}
        has_number = len(named) < len(set(stem))
        return named <= PARTS_OF_CACHES and (has_number or bool(named - {"value", "state"}))
    if words & (CACHE_WORDS | {"past", "present"}):
        return False
    # `hidden_states` is what transformers call the values between their layers
    if {"hidden", "states"} <= words or {"hidden", "state"} <= words:
        return False
    return bool(words & RECURRENT_WORDS) and _reaches_recurrent_layer(graph, source.name)


def _reaches_recurrent_layer(graph: GraphProto, name: str) -> bool:
    """Tell whether a value is, in parts or in another layout, the first state of a recurrent layer.

    Bodies are looked into as well: they capture values by their names.
    """
    # the walk is over names alone: of two bodies that use one name for two values, either counts
    reached = {name}
    for node in _list_inner_nodes(graph):
        if node.op_type in structure.RECURRENT and reached.intersection(
            node.input[structure.FIRST_STATE_OPERAND :]
        ):
            return True
        if reached.intersection(node.input[:1]) and node.op_type in structure.PARTS_OF_ONE:
            reached.update(node.output)
        if node.op_type == structure.IF:
            for _, body in list_bodies(node):
                pairs = zip(body.output, node.output, strict=False)
                reached.update(made for inner, made in pairs if inner.name in reached)
    return False


def _list_inner_nodes(graph: GraphProto) -> Iterator[NodeProto]:
    """Yield the nodes of a graph and of the bodies in it, in an order in which values are made."""
    for node in graph.node:
        for _, body in list_bodies(node):
            yield from _list_inner_nodes(body)
        yield node
