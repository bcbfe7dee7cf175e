"""Classes of operators: what holds of every operator in a table, for inputs of all kinds.

The tables name operators of the default domain. They say what the specification says of an
operator; how an operator acts on the order of its operands is in the rules.
"""

from __future__ import annotations

from collections.abc import Mapping

from . import names

RANDOM_OPERATORS = (
    "Bernoulli",
    "Dropout",
    "Multinomial",
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
)
"""Operators that draw at random: two nodes with the same operands give two results."""

UNARY_OPERATORS = (
    "Abs",
    "Ceil",
    "Celu",
    "Clip",
    "Cos",
    "Elu",
    "Erf",
    "Exp",
    "Floor",
    "HardSigmoid",
    "LeakyRelu",
    "Log",
    "Neg",
    names.RECIPROCAL,
    "Relu",
    "Round",
    "Selu",
    "Sigmoid",
    "Sign",
    "Sin",
    "Softplus",
    "Softsign",
    names.SQRT,
    "Tanh",
)
"""Elementwise operators of one operand, whose result has its shape and its type.

Each acts on all elements in one way. Only Clip has other operands, of one element each.
"""

WINDOW_POOLS = ("AveragePool", "LpPool", "MaxPool")
"""Pools whose windows move along the map, so that its lengths are quotients that are rounded."""

DISPUTED_LENGTH_OPERATORS = (
    names.CONV_TRANSPOSE,
    names.RESIZE,
    names.UPSAMPLE,
    *WINDOW_POOLS,
)
"""Operators some of whose lengths are rounded, and on which inference and runtimes may disagree."""

FINITE_OPERATORS = (
    names.ADD,
    names.EXPAND,
    names.MOVE,
    names.MUL,
    names.PART,
    names.PRODUCT,
    names.RESHAPE,
    names.SCALE,
    names.SUM,
    names.TRANSPOSE,
)
"""Operators of the normal form that move real numbers, add or multiply them.

Their results are real numbers where their operands are, unless a sum or product overflows.
"""

WEIGHTED_SUM_OPERATORS = (names.LINEAR, names.CONV, names.MAT_MUL)
"""Operators of the normal form that give weighted sums of their first operand's elements."""

PASSING_OPERATORS = ("Cast", "Dropout", "Expand", "Identity", "Reshape", "Squeeze", "Unsqueeze")
"""Operators through which a weight stays a weight: its elements are the same, in the same order.

`Cast` may round them, and `Expand` may repeat them.
"""

MOVING_OPERATORS = (
    *PASSING_OPERATORS,
    "Concat",
    "ConstantOfShape",
    "Flatten",
    "Gather",
    "Slice",
    "Split",
    "Tile",
    "Transpose",
)
"""Operators that only move elements, whatever their values are.

Where two of them do not move alike, any two runs of a model show it.
"""

COMMUTATIVE_OPERATORS = ("Add", "Max", "Mean", "Min", "Mul", "Sum")
"""Operators whose operands have no order.

Where an operand is one number everywhere, exporters leave it out, or write it elsewhere.
"""
SUMMING_OPERATORS = ("Add", "Mean", "Mul", "Product", "Sum")
"""Operators that compute the same of two operands in either order, bit for bit.

The larger of two numbers is none: of zeros of both signs a runtime takes the first one.
"""

EQUIVALENT_VERSIONS: Mapping[str, tuple[int, ...]] = {
    **dict.fromkeys(("Add", "Div", "Mul", "Sub"), (7, 13, 14)),
    **dict.fromkeys(("Abs", "Ceil", "Floor"), (6, 13)),
    **dict.fromkeys(("GRU", "LSTM", "RNN"), (7, 14, 22)),
    **dict.fromkeys(("ArgMax", "ArgMin"), (1, 11, 12, 13)),
    **dict.fromkeys(("Elu", "HardSigmoid", "InstanceNormalization", "Selu"), (6, 22)),
    "AveragePool": (7, 10, 11),
    "Cast": (6, 9, 13, 19, 21, 23, 24, 25),
    "Clip": (11, 12, 13),
    "Concat": (4, 11, 13),
    "ConvTranspose": (1, 11, 22),
    "DepthToSpace": (1, 11, 13),
    "DequantizeLinear": (10, 13, 19, 21, 23, 24, 25),
    "Equal": (7, 11, 13, 19),
    "Gather": (1, 11, 13),
    "GatherElements": (11, 13),
    "GatherND": (11, 12, 13),
    "Gemm": (7, 9, 11, 13),
    "LRN": (1, 13),
    "LpPool": (11, 18),
    "Loop": (11, 13, 16, 19, 21, 23, 24, 25),
    "MaxPool": (8, 10, 11, 12),
    "NegativeLogLikelihoodLoss": (12, 13, 22),
    "OneHot": (9, 11),
    "Pad": (11, 13, 18, 19, 21, 23, 24, 25),
    "QuantizeLinear": (10, 13, 19, 21, 23, 24),
    "Reshape": (5, 13, 14, 19, 21, 23, 24, 25),
    "Resize": (11, 13, 18, 19),
    "ScatterElements": (11, 13, 16, 18),
    "ScatterND": (11, 13, 16, 18),
    "Shape": (1, 13, 15, 19, 21, 23, 24, 25),
    "Slice": (10, 11, 13),
    "SoftmaxCrossEntropyLoss": (12, 13),
    "TopK": (10, 11, 24),
}
"""Versions of an operator whose texts differ and whose meaning does not.

The newer text names more element types, allows negative axes, is worded better, or adds an
attribute whose default is the old meaning. What an older version forbids cannot stand in a file of
that version.
"""
