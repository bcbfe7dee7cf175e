"""Plain forms of Gelu and its approximations.

Spec: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
"""

from __future__ import annotations

from ..plain_forms import NoPlainFormError, Writer, register_plain_form


@register_plain_form("Gelu", "X")
def write_gelu(w: Writer) -> str:
    """Gelu of the default domain."""
    return w("Gelu", w["X"])


@register_plain_form("BiasGelu", "A B")
def write_bias_gelu(w: Writer) -> str:
    """Gelu of a sum."""
    return w("Gelu", w.add(w["A"], w["B"]))


@register_plain_form("FastGelu", "X bias?")
def write_fast_gelu(w: Writer) -> str:
    """The approximation of Gelu with tanh, of a sum."""
    return w("Gelu", w.add(w["X"], w["bias"]), approximate="tanh")


@register_plain_form("QuickGelu", "X", alpha=1.702)
def write_quick_gelu(w: Writer) -> str:
    """``x * sigmoid(alpha * x)``."""
    return w("Mul", w["X"], w("Sigmoid", w.scale(w["X"], w.get_attribute("alpha"))))


@register_plain_form("ScaledSiLU", "X scale?", alpha=1.0)
def write_scaled_silu(w: Writer) -> str:
    """SiLU of a number times the operand."""
    if w["scale"]:
        if w.require_rank(w["scale"]):
            raise NoPlainFormError("a scale that is no number")
        scaled = w("Mul", w["X"], w("CastLike", w["scale"], w["X"]))
    else:
        scaled = w.scale(w["X"], w.get_attribute("alpha"))
    return w("Mul", scaled, w("Sigmoid", scaled))


@register_plain_form("GatedAdd", "X Y gate")
def write_gated_add(w: Writer) -> str:
    """A sum whose second part has a gate for every row."""
    return w("Add", w["X"], w("Mul", w["Y"], w["gate"]))
