"""Convolutions and matrix products.

Spec: https://onnx.ai/onnx/operators/
"""

from ...errors import UnknownStructureError
from ..kinds import Equation, Kind, Node, require_rank
from ..laws import Law, Multilinear, ScaledNode, Window
from ..registry import register, register_equation


def is_padded(node: ScaledNode) -> bool:
    """Tell whether windows reach beyond the map."""
    has_pads = any(node.attributes.get("pads", ()))
    return has_pads or node.attributes.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID")


def find_convolution_law(node: ScaledNode) -> Law:
    """Find the law of Conv: linear in map and weight; padded windows see the edge of the map."""
    return Multilinear(window=Window(is_padded(node)))


def find_gemm_law(node: ScaledNode) -> Law:
    """Find the law of Gemm: linear in both matrices; product and bias have a number each."""
    given = node.attributes
    return Multilinear(coefficient=given.get("alpha", 1.0), addend=given.get("beta", 1.0))


@register("Conv", law=find_convolution_law)
def describe_convolution(node: Node) -> Equation:
    """Channels are contracted group by group; the window keeps its places."""
    return Equation(
        "b (g i) [x..], (g o) i [w..], (g o) -> b (g o) [y..]",
        {"g": node.attributes.get("group", 1)},
    )


# At the edge of the result fewer windows meet, so it differs from the middle whatever the pads are.
register_equation(
    "b (g i) [x..], (g i) o [w..], (g o) -> b (g o) [y..]",
    "ConvTranspose",
    law=Multilinear(window=Window(is_padded=True)),
    sizes={"g": ("group", 1)},
)


@register("Gemm", law=find_gemm_law)
def describe_gemm(node: Node) -> Kind:
    """A product of either transpose, and a bias."""
    a = "k m" if node.attributes.get("transA") else "m k"
    b = "n k" if node.attributes.get("transB") else "k n"
    c = node.shapes[2] if len(node.shapes) > 2 else None
    bias = "" if c is None else ", " + " ".join("mn"[-len(c) :] if c else "")
    return Equation(f"{a}, {b}{bias} -> m n")


@register("MatMul", law=Multilinear())
def describe_matmul(node: Node) -> Kind:
    """Contracts the last axis with the last but one, batch axes broadcast."""
    a, b = require_rank(node, 0), require_rank(node, 1)
    batch = [f"b{i}" for i in range(max(a, b) - 2)]
    left = [*batch[len(batch) - (a - 2) :], "m", "k"] if a > 1 else ["k"]
    right = [*batch[len(batch) - (b - 2) :], "k", "n"] if b > 1 else ["k"]
    result = [*batch, *(["m"] if a > 1 else []), *(["n"] if b > 1 else [])]
    return Equation(f"{' '.join(left)}, {' '.join(right)} -> {' '.join(result)}")


@register("Einsum", law=Multilinear(factors=None))
def describe_einsum(node: Node) -> Kind:
    """Its own equation."""
    text = node.attributes["equation"].decode().replace(" ", "")
    operands, arrow, result = text.partition("->")
    terms = operands.split(",")
    if "." in text or any(len(set(t)) < len(t) for t in terms):
        raise UnknownStructureError("an ellipsis or a diagonal")
    # Without a result the letters that occur once stand in it, in the order of the alphabet.
    if not arrow:
        letters = sorted("".join(terms))
        result = "".join(x for x in letters if letters.count(x) == 1)
    return Equation(", ".join(" ".join(t) for t in terms) + " -> " + " ".join(result))
