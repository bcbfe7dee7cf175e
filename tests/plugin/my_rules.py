"""Rules of a package of its own: what lady-onnx has to know of the operators of `my.domain`."""

from __future__ import annotations

from lady_onnx.rules import (
    Elementwise,
    Equation,
    Kind,
    Node,
    Writer,
    laws,
    register,
    register_plain_form,
    require_shape,
)

DOMAIN = "my.domain"


@register("ScaledGelu", domain=DOMAIN)
def scaled_gelu(node: Node) -> Kind:
    """Every element alone; a Gelu lets no factor pass."""
    return Elementwise()


def infer_shape(node: Node) -> list[tuple[int, ...]]:
    """A convolution without padding whose windows are `stride` apart."""
    batch, _, *lengths = require_shape(node)
    channels, _, *kernel = require_shape(node, 1)
    stride = node.attributes["stride"]
    made = [(n - k) // stride + 1 for n, k in zip(lengths, kernel, strict=True)]
    return [(batch, channels, *made)]


UNPADDED = laws.Multilinear(window=laws.Window(is_padded=False))


@register("StridedConv", domain=DOMAIN, law=UNPADDED, shape=infer_shape, typed_like=0)
def strided_convolution(node: Node) -> Kind:
    """Channels are contracted, the window keeps its places."""
    return Equation("b i [x..], o i [w..] -> b o [y..]")


@register_plain_form("ScaledRelu", "X", domain=DOMAIN, alpha=2.0)
def write_scaled_relu(w: Writer) -> str:
    """A ReLU times a number."""
    return w.scale(w("Relu", w["X"]), w.get_attribute("alpha"))
