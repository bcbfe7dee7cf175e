"""What several strategies of hypothesis draw: arrays, attributes and activations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st

Draw = Callable[[st.SearchStrategy], Any]


def reals(draw: Draw, *shape: int) -> np.ndarray:
    generator = np.random.default_rng(draw(st.integers(0, 1 << 16)))
    return np.asarray(2 * generator.standard_normal(shape), np.float32)


def maybe(draw: Draw, make: Callable[[], Any]) -> Any:
    """What `make` gives, or None."""
    return make() if draw(st.booleans()) else None


def some(draw: Draw, **choices: Sequence[Any]) -> dict[str, Any]:
    """Some of the attributes, each with one of its values."""
    return {
        name: draw(st.sampled_from(values))
        for name, values in choices.items()
        if draw(st.booleans())
    }


def activation(draw: Draw) -> dict[str, Any]:
    """What a convolution does at its end."""
    kinds: list[dict[str, Any]] = [
        {},
        *({"activation": k} for k in ("Relu", "Sigmoid", "Tanh", "HardSwish")),
    ]
    kinds += [
        {"activation": "LeakyRelu", "activation_params": [0.3]},
        {"activation": "Clip", "activation_params": [-0.5, 0.8]},
    ]
    return draw(
        st.sampled_from([*kinds, {"activation": "HardSigmoid", "activation_params": [0.3, 0.4]}])
    )


def pooling(draw: Draw, axes: int = 2) -> dict[str, Any]:
    """The attributes of a pooling."""
    kernel = [draw(st.integers(2, 3)) for _ in range(axes)]
    attributes = some(draw, strides=[[1] * axes, [2] * axes], ceil_mode=[0, 1])
    around = [{"pads": [1] * axes + [0] * axes}, {"pads": [1] * 2 * axes}]
    around += [{"auto_pad": k} for k in ("VALID", "SAME_UPPER", "SAME_LOWER")]
    return attributes | {"kernel_shape": kernel} | draw(st.sampled_from([{}, *around]))


def one_of(draw: Draw, *choices: Any) -> Any:
    return draw(st.sampled_from(choices))


def average_pooling(draw: Draw, axes: int = 2) -> dict[str, Any]:
    """The attributes of a pooling to averages."""
    attributes = pooling(draw, axes)
    return attributes | (
        {} if attributes.get("ceil_mode") else some(draw, count_include_pad=[0, 1])
    )
