"""Names of operators that play a part in the structure of a graph, whatever they compute.

A reader of files has to know which nodes hold a constant, hold other graphs, or stand for nothing
but a name. These are the only operators that it may know by name. What operators do to the order
of elements is said by the rules of the other modules.
"""

from __future__ import annotations

CONSTANT = "Constant"
"""Holds a tensor, or a list of numbers, in an attribute."""

IDENTITY = "Identity"
"""Gives its operand another name and changes nothing."""

QUANTIZE_LINEAR = "QuantizeLinear"
"""Rounds floats to integers. A graph that has it is meant to be run in integers."""

MICROSOFT = "com.microsoft"
"""The domain of onnxruntime's own operators."""

REORDER_INPUT = "ReorderInput"
"""Lays channels of a map out in blocks, as many in each as suit the processor."""

MIN_BODIES = {"If": 2, "Loop": 1, "Scan": 1}
"""The number of graphs that an operator of the default domain holds at least."""

CONTROL_INPUTS = {"Loop": 2}
"""The number of first inputs of a node, and of its body, that do not belong to each other.

A Loop takes its number of rounds and a condition, its body the number of the round and a condition.
"""

CONTROL_OUTPUTS = {"Loop": 1}
"""The number of first outputs of a body that its node does not give.

The body of a Loop gives its condition first.
"""

IF, LOOP, SCAN, SEQUENCE_MAP = "If", "Loop", "Scan", "SequenceMap"
"""Operators that hold other graphs and run them.

They run them once, several times, or on each tensor of a sequence.
"""

CONCAT_FROM_SEQUENCE = "ConcatFromSequence"
SEQUENCE_AT = "SequenceAt"
SEQUENCE_CONSTRUCT = "SequenceConstruct"
SEQUENCE_EMPTY = "SequenceEmpty"
SEQUENCE_ERASE = "SequenceErase"
SEQUENCE_INSERT = "SequenceInsert"
SEQUENCE_LENGTH = "SequenceLength"
SPLIT_TO_SEQUENCE = "SplitToSequence"
"""Operators that make, change or read a sequence of tensors."""

SHAPE, SIZE = "Shape", "Size"
"""Operators whose result follows from the shape of the operand alone."""

RECURRENT, FIRST_STATE_OPERAND = frozenset({"GRU", "LSTM", "RNN"}), 5
"""Recurrent layers, and the first of their operands that are states of an earlier step."""

PARTS_OF_ONE = frozenset(
    {"Cast", "Flatten", "Gather", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Transpose"}
    | {"Unsqueeze"}
)
"""Operators that give elements of their first operand, in another place or type."""


def normalise_domain(domain: str) -> str:
    """Return a domain under one name: the default domain has two.

    >>> normalise_domain("ai.onnx"), normalise_domain("com.microsoft")
    ('', 'com.microsoft')
    """
    return "" if domain == "ai.onnx" else domain
