"""What every operator does: one declaration each, one operator family a file.

A declaration tells what an operator does to the order of elements (its kind), to scale and sign
(its law), to shapes where ONNX's inference does not know it (its shape function), and for a fused
operator which plain operators it stands for (its plain form). All readers ask the registry; none
holds a list of operators. An operator that is not declared pins every axis that it touches, and
lets no factor pass: nothing is guessed. Neither a wrong kind nor a wrong law is noticed here, so
test both, as `tests/helpers/operator_cases.py` and `tests/rules/test_rules.py` do.

An operator of ONNX or onnxruntime goes into the file of its family in `operators`, `microsoft` or
`plain`. One of another domain goes into a module of a package of your own, which an entry point of
the group `lady_onnx.rules` names, or into a file for `load_rules_file` and `--rules FILE.py`. Both
use the names below, and `domain=` in every call. A function that the model itself defines needs no
declaration, because its nodes are read.

Kinds
-----
`register` takes a function of a `Node`, which returns one of six kinds. Where it is not sure it
raises `lady_onnx.errors.UnknownStructureError("why")`. Then the node pins what it touches, and that
is the reason.

`Elementwise`: every element depends on those that numpy's broadcasting brings to its place.

>>> @register("ScaledGelu", domain="my.domain")
... def describe_scaled_gelu(node: Node) -> Kind:
...     '''Every element alone.'''
...     return Elementwise()

`Movement`: elements are only moved, by the steps `Take`, `Reshape`, `Transpose` and `Expand`.

>>> import numpy as np
>>> @register("SwapHalves", domain="my.domain")
... def describe_swapped_halves(node: Node) -> Kind:
...     '''The halves of the last axis change places.'''
...     *_, length = require_shape(node)
...     order = np.roll(np.arange(length), length // 2)
...     return Movement([((0,), [Take(require_rank(node) - 1, order)])])

`Equation`: named axes are tied, contracted, normalised over or pinned. Most operators that combine
elements are one line, and `sizes` names the attributes that give sizes.

>>> register_equation("b s i, (h d) i -> b s h d", "Heads", domain="my.domain",
...                   sizes={"h": ("num_heads", 1)}, law=laws.Multilinear())

`Steps`: several kinds one after the other, for an operator that is made of simpler ones.

>>> @register("GatedNorm", domain="my.domain")
... def describe_gated_norm(node: Node) -> Kind:
...     '''A product with the second operand, normalised over the last axis.'''
...     product = ("p", Elementwise(), ("0", "1"))
...     return Steps([product, ("y", Equation("b {c} -> b c"), ("p",))], ("y",))

`Source`: the result depends on the order of no operand. With `uniform=True` all its elements are
the same.

>>> @register("Positions", domain="my.domain")
... def describe_positions(node: Node) -> Kind:
...     '''Numbers that are counted along an axis.'''
...     return Source()

`Body`: the operator holds subgraphs (`holds_bodies=True`), or ONNX gives it as a function of other
operators. The analysis walks what is inside.

>>> find_rule("", "If").order(None)
Body(is_repeated=False)

An operator that pins all that it touches is declared too, with its reason:

>>> register_pinned("a search in the order of its tokens", "BeamSearch", domain="my.domain")

Laws
----
`law=` takes one of these, or a function of a `laws.ScaledNode` that returns one, or None:

- `Independent`: f(x) = f(y).
- `Linear`: f(c x, c y) = c f(x, y), a sum, mean or copy.
- `PositivelyHomogeneous`: f(c x) = c f(x) for c > 0.
- `Odd`: f(-x) = -f(x). `Even`: f(-x) = f(x).
- `Absolute`: f(c x) = |c| f(x). `Signum`: f(c x) = sign(c) f(x).
- `Selection`: each element is that of one operand or of another.
- `Monomial`: f(a x, b y) = a^p b^q f(x, y).
- `Multilinear`: a product, linear in each factor, plus the operands behind them.
- `Reflective`: f(-x) = top - f(x), or f(top - x) = top - f(x).
- `Norm`: f(x, gain, bias) = gain x / size(x) + bias. `StatisticsNorm`: the size is stored.
- `Softmax`: f(x + c) = f(x). `Recurrence`: the cell of a recurrent layer.

Movements without padding need no law: factors move with the elements. Where there is no law no
factor passes, so a law may be added later.

>>> def find_leaky_law(node: laws.ScaledNode) -> laws.Law | None:
...     is_monotone = node.attributes.get("slope", 0.1) >= 0
...     return laws.PositivelyHomogeneous() if is_monotone else None
>>> @register("Leaky", domain="my.domain", law=find_leaky_law)
... def describe_leaky(node: Node) -> Kind:
...     '''Every element alone.'''
...     return Elementwise()

Shape functions
---------------
Movements, broadcasting, and equations whose names all stand in operands give the shapes of their
results. For all other results of an operator that ONNX does not know, `shape=` takes a function
that gives every shape from `node.shapes` and `node.attributes`. `typed_like=` is the operand with
their element type; by default it is the first one of floats.

>>> def find_strided_shape(node: Node) -> list[tuple[int, ...]]:
...     batch, _, length = require_shape(node)
...     units, _, width = require_shape(node, 1)
...     return [(batch, units, (length - width) // node.attributes["stride"] + 1)]
>>> UNPADDED = laws.Multilinear(window=laws.Window(is_padded=False))
>>> @register("StridedConv", domain="my.domain", law=UNPADDED, shape=find_strided_shape,
...           typed_like=0)
... def describe_strided_convolution(node: Node) -> Kind:
...     '''Channels are contracted; the window keeps its places.'''
...     return Equation("b i [x], o i [w] -> b o [y]")

Plain forms
-----------
A fused operator is declared by the plain operators that it stands for, and inherits kind, law and
shape from them. The declaration names its operands ("?" marks one that may be left out) and its
attributes with their defaults. The decorated function writes the nodes, and raises
`NoPlainFormError` where it cannot; such a node is read by the operator's rule, if it has one.

>>> @register_plain_form("ScaledRelu", "X bias?", domain="my.domain", alpha=2.0)
... def write_scaled_relu(w: Writer) -> str:
...     '''A ReLU of a sum, times a number.'''
...     return w.scale(w("Relu", w.add(w["X"], w["bias"])), w.get_attribute("alpha"))

All of it at work: the five hidden units are one group, although onnxruntime knows no ScaledGelu.

>>> import lady_onnx
>>> from onnx import TensorProto, helper, numpy_helper
>>> first, second = np.arange(20.0).reshape(4, 5), np.arange(15.0).reshape(5, 3)
>>> graph = helper.make_graph(
...     [
...         helper.make_node("MatMul", ["x", "first"], ["h"]),
...         helper.make_node("ScaledGelu", ["h"], ["a"], domain="my.domain"),
...         helper.make_node("MatMul", ["a", "second"], ["y"]),
...     ],
...     "example",
...     [helper.make_tensor_value_info("x", TensorProto.DOUBLE, [1, 4])],
...     [helper.make_tensor_value_info("y", TensorProto.DOUBLE, [1, 3])],
...     [numpy_helper.from_array(first, "first"), numpy_helper.from_array(second, "second")],
... )
>>> sets = [helper.make_opsetid("", 20), helper.make_opsetid("my.domain", 1)]
>>> model = helper.make_model(graph, opset_imports=sets)
>>> [(group.size, len(group.slots)) for group in lady_onnx.find_groups(model).groups]
[(5, 2)]
"""

from __future__ import annotations

import importlib
import pkgutil

from ..vocabulary.structure import normalise_domain
from . import laws
from .kinds import (
    Body,
    Describe,
    Elementwise,
    Equation,
    Expand,
    Kind,
    Movement,
    Node,
    Reshape,
    Source,
    Step,
    Steps,
    Take,
    Transpose,
    read_axis_attribute,
    require_rank,
    require_shape,
)
from .plain_forms import NoPlainFormError, Writer, register_plain_form
from .plugins import load_rules_file
from .registry import (
    REGISTRY,
    Rule,
    find_rule,
    register,
    register_equation,
    register_pinned,
)
from .table import make_table

__all__ = [
    "REGISTRY",
    "Body",
    "Describe",
    "Elementwise",
    "Equation",
    "Expand",
    "Kind",
    "Movement",
    "NoPlainFormError",
    "Node",
    "Reshape",
    "Rule",
    "Source",
    "Step",
    "Steps",
    "Take",
    "Transpose",
    "Writer",
    "find_rule",
    "laws",
    "load_rules_file",
    "make_table",
    "normalise_domain",
    "read_axis_attribute",
    "register",
    "register_equation",
    "register_pinned",
    "register_plain_form",
    "require_rank",
    "require_shape",
]

FAMILIES = ("operators", "plain", "microsoft")
"""The packages of declarations that come with lady-onnx, one module an operator family."""

for _family in FAMILIES:
    _package = importlib.import_module(f"{__name__}.{_family}")
    for _module in pkgutil.iter_modules(_package.__path__):
        importlib.import_module(f"{_package.__name__}.{_module.name}")
