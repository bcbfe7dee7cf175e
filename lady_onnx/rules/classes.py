"""TODO."""

from __future__ import annotations

UNARY_OPERATORS = (
    *(
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
    ),
    *(
        "Reciprocal",
        "Relu",
        "Round",
        "Selu",
        "Sigmoid",
        "Sign",
        "Sin",
        "Softplus",
        "Softsign",
        "Sqrt",
        "Tanh",
    ),
)
"""Operators that act on every element alone; of Clip the first operand is acted on."""


WINDOW_POOLS = ("AveragePool", "LpPool", "MaxPool")


DISPUTED_LENGTH_OPERATORS = ("ConvTranspose", "Resize", "Upsample", *WINDOW_POOLS)
"""Operators of which some lengths are rounded."""


RANDOM_OPERATORS = (
    "Bernoulli",
    "Dropout",
    "Multinomial",
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
)
"""Operators of which two nodes give two results."""
