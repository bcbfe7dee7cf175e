"""Plain forms of Gelu and its approximations.

Spec: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
"""

from __future__ import annotations

from .writer import Writer, register_plain_form


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
