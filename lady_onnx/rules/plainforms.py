"""Fused operators spelled out in plain ones.

onnxruntime's optimisers write operators of its own domain. Each has one declaration here: the operands and attributes that
are understood, by the names in its schema, and a function that writes the same computation in operators of the default
domain at opset 20. A node with anything that its declaration does not list has no plain form: nothing is guessed. The two
are equal for real numbers; their rounding may differ.

Spec: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from onnx import AttributeProto, NodeProto, TensorProto, helper, numpy_helper

MICROSOFT = "com.microsoft"
FLOAT, INT, STRING = AttributeProto.FLOAT, AttributeProto.INT, AttributeProto.STRING
FLOATS, INTS = AttributeProto.FLOATS, AttributeProto.INTS

Ranks = Callable[[str], int | None]
"""The rank of a tensor, None where it is not known."""
Names = Callable[[str], str]
"""A name for a tensor that is not taken; it is like the given one."""


class NoPlainForm(Exception):
    """What a node says is not understood, or not expressed."""


@dataclass(frozen=True)
class Attribute:
    """What is understood of an attribute: its type, whether it must be there, and what it is where it is left out."""

    kind: int
    is_required: bool = False
    default: Any = None

    @classmethod
    def of(cls, default: float | int | str) -> Attribute:
        """An attribute that has a default."""
        kinds: dict[type, int] = {float: FLOAT, int: INT, str: STRING}
        return cls(kinds[type(default)], default=default)

    def read(self, given: AttributeProto | None) -> Any:
        """The value on a node, or the default."""
        if given is None:
            if self.is_required:
                raise NoPlainForm("a required attribute is left out")
            return self.default
        if given.type != self.kind or given.ref_attr_name:
            raise NoPlainForm(f"attribute {given.name} is of another type")
        value = helper.get_attribute_value(given)
        return value.decode() if isinstance(value, bytes) else value


def required(kind: int) -> Attribute:
    """An attribute that must be there."""
    return Attribute(kind, is_required=True)


def optional(kind: int) -> Attribute:
    """An attribute that is None where it is left out."""
    return Attribute(kind)


@dataclass
class Writer:
    """Writes the plain form of one node. `w("Add", x, y)` writes a node, `w["A"]` is the node's operand A.

    Attributes:
        operands: the names of the node's operands by the names in its schema; "" for one that is left out.
        rest: the names of the operands beyond those, where the operator takes any number.
        attributes: the values of the node's attributes.
        rank: the rank of a tensor.
        fresh: a name for a tensor.
        nodes: what is written so far.
    """

    operands: Mapping[str, str]
    rest: Sequence[str]
    attributes: Mapping[str, Any]
    rank: Ranks
    fresh: Names
    nodes: list[NodeProto] = field(default_factory=list)

    def __getitem__(self, operand: str) -> str:
        return self.operands[operand]

    def __call__(self, operator: str, *operands: str, **attributes: Any) -> str:
        """Writes a node with one result, and gives its name; attributes that are None are left out."""
        return self.write_many(1, operator, *operands, **attributes)[0]

    def write_many(
        self, results: int, operator: str, *operands: str, **attributes: Any
    ) -> list[str]:
        """Writes a node with several results, and gives their names."""
        names = [self.fresh(operator.lower()) for _ in range(results)]
        given = {name: value for name, value in attributes.items() if value is not None}
        last = max((k for k, name in enumerate(operands, 1) if name), default=0)
        self.nodes.append(helper.make_node(operator, operands[:last], names, **given))
        return names

    def attribute(self, name: str) -> Any:
        """The value of an attribute."""
        return self.attributes[name]

    def some(self, names: Sequence[str]) -> dict[str, Any]:
        """The values of some attributes."""
        return {name: self.attributes[name] for name in names}

    def known_rank(self, name: str) -> int:
        """The rank of a tensor, where nothing can be written without it."""
        rank = self.rank(name)
        if rank is None:
            raise NoPlainForm(f"the rank of {name!r} is not known")
        return rank

    def constant(self, value: Any, dtype: Any) -> str:
        """A constant of the given type."""
        name = self.fresh("constant")
        tensor = numpy_helper.from_array(np.asarray(value, dtype))
        self.nodes.append(helper.make_node("Constant", [], [name], value=tensor))
        return name

    def whole(self, *values: int) -> str:
        """A vector of whole numbers."""
        return self.constant(values, np.int64)

    def number(self, value: float, like: str) -> str:
        """A number in the type of another tensor."""
        return self("CastLike", self.constant(value, np.float32), like)

    def times(self, x: str, factor: float) -> str:
        """`x` times a number."""
        return x if factor == 1 else self("Mul", x, self.number(factor, x))

    def plus(self, x: str, *addends: str) -> str:
        """The sum of `x` and those addends that are not left out."""
        for addend in filter(None, addends):
            x = self("Add", x, addend)
        return x

    def transposed(self, x: str, order: Sequence[int]) -> str:
        """`x` with its axes in another order."""
        return x if list(order) == sorted(order) else self("Transpose", x, perm=list(order))


Write = Callable[[Writer], str | Sequence[str | None]]
"""Writes the plain form, and names its results in order; None for one that it does not give."""


@dataclass(frozen=True)
class Declaration:
    """What is understood of an operator.

    Attributes:
        operands: the names of the operands; "?" at the end says that one may be left out.
        attributes: what is understood of the attributes, by their names.
        write: writes the plain form.
        has_rest: whether any number of operands follows.
    """

    operands: Sequence[str]
    attributes: Mapping[str, Attribute]
    write: Write
    has_rest: bool = False

    def writer_for(self, node: NodeProto, rank: Ranks, fresh: Names) -> Writer:
        """A writer for a node, if it has nothing that is not declared."""
        given = {a.name: a for a in node.attribute}
        if (
            len(given) < len(node.attribute)
            or not given.keys() <= self.attributes.keys()
            or node.overload
        ):
            raise NoPlainForm("an attribute is not known")
        names, rest = list(node.input[: len(self.operands)]), list(node.input[len(self.operands) :])
        if rest and not self.has_rest:
            raise NoPlainForm("an operand is not known")
        names += [""] * (len(self.operands) - len(names))
        if not all(
            name or operand.endswith("?")
            for name, operand in zip(names, self.operands, strict=True)
        ):
            raise NoPlainForm("a required operand is left out")
        operands = {
            operand.rstrip("?"): name for operand, name in zip(self.operands, names, strict=True)
        }
        values = {
            name: attribute.read(given.get(name)) for name, attribute in self.attributes.items()
        }
        return Writer(operands, rest, values, rank, fresh)


FORMS: dict[tuple[str, str], Declaration] = {}
"""The declarations by domain and operator."""


def form(
    operator: str,
    operands: str,
    *,
    domain: str = MICROSOFT,
    **attributes: Attribute | float | int | str,
) -> Callable[[Write], Write]:
    """Declares an operator: its operands, "..." for any number, and its attributes, each with a default or an `Attribute`."""
    declared = {
        name: a if isinstance(a, Attribute) else Attribute.of(a) for name, a in attributes.items()
    }

    def register(write: Write) -> Write:
        if (domain, operator) in FORMS:
            raise ValueError(f"two plain forms for {domain} {operator}")
        named = operands.removesuffix("...").split()
        FORMS[domain, operator] = Declaration(named, declared, write, operands.endswith("..."))
        return write

    return register


def spell_out(node: NodeProto, rank: Ranks, fresh: Names) -> list[NodeProto] | None:
    """The same computation in operators of the default domain, with the meaning they have in opset 20.

    A number that an attribute gives follows the type of the tensor that it meets (`CastLike`). A model may have a function
    of its own under the name of an operator; the caller knows that, and asks about no such node.

    Args:
        node: any node.
        rank: gives the rank of a tensor, or None.
        fresh: gives a name for a tensor that is not taken.

    Returns:
        Nodes in an order in which they can run, the last results under the names of the node's; None where no plain form
        is known.
    """
    declaration = FORMS.get((node.domain, node.op_type))
    if declaration is None:
        return None
    try:
        writer = declaration.writer_for(node, rank, fresh)
        written = declaration.write(writer)
    except NoPlainForm:
        return None
    results = [written] if isinstance(written, str) else list(written)
    results += [None] * (len(node.output) - len(results))
    pairs = [(result, name) for result, name in zip(results, node.output, strict=False) if name]
    if any(result is None for result, _ in pairs):
        return None
    for result, name in pairs:
        writer.nodes.append(helper.make_node("Identity", [str(result)], [name]))
    return _without_copies(_needed(writer.nodes, [name for _, name in pairs]))


def _needed(nodes: Sequence[NodeProto], names: Sequence[str]) -> list[NodeProto]:
    """The nodes that some tensors are computed with."""
    wanted, kept = set(names), []
    for node in reversed(nodes):
        if wanted.intersection(node.output):
            wanted.update(node.input)
            kept.append(node)
    return kept[::-1]


def _without_copies(nodes: Sequence[NodeProto]) -> list[NodeProto]:
    """The nodes, with what they copy under its last name where one of them computes it."""
    made = {name for node in nodes for name in node.output}
    names: dict[str, str] = {}
    kept = []
    for node in nodes:
        if node.op_type == "Identity" and node.input[0] in made and node.input[0] not in names:
            names[node.input[0]] = node.output[0]
        else:
            kept.append(node)
    for node in kept:
        for field_ in (node.input, node.output):
            field_[:] = [names.get(name, name) for name in field_]
    return kept


# ---- products and activations

CONVOLUTION: dict[str, Any] = {
    "auto_pad": "NOTSET",
    "dilations": optional(INTS),
    "group": 1,
    "kernel_shape": optional(INTS),
    "pads": optional(INTS),
    "strides": optional(INTS),
}
"""The attributes of Conv."""
FUSED: dict[str, Any] = {"activation": optional(STRING), "activation_params": optional(FLOATS)}
"""The attributes that a convolution has beside those of Conv."""

MAP_ACTIVATIONS: dict[str, Sequence[str]] = {
    "HardSigmoid": ("alpha", "beta"),
    "HardSwish": (),
    "LeakyRelu": ("alpha",),
    "Relu": (),
    "Sigmoid": (),
    "Tanh": (),
}
"""Activations that a convolution does at its end, beside Clip, with the attributes that its list of numbers gives."""
ROW_ACTIVATIONS: dict[str, Sequence[str]] = {
    "Elu": ("alpha",),
    "HardSigmoid": ("alpha", "beta"),
    "LeakyRelu": ("alpha",),
    "Relu": (),
    "Selu": ("alpha", "gamma"),
    "Sigmoid": (),
    "Softplus": (),
    "Softsign": (),
    "Tanh": (),
    "ThresholdedRelu": ("alpha",),
}
"""Activations that FusedGemm does at its end, with their attributes."""


def activated(w: Writer, x: str) -> str:
    """What the attributes `activation` and `activation_params` make of a tensor."""
    kind, numbers = w.attribute("activation"), list(w.attribute("activation_params") or ())
    if kind is None and not numbers:
        return x
    if kind == "Clip" and len(numbers) == 2:
        return w("Clip", x, *(w.number(bound, x) for bound in numbers))
    names = MAP_ACTIVATIONS.get(kind)
    if names is None or len(names) != len(numbers):
        raise NoPlainForm(f"activation {kind} with {len(numbers)} numbers")
    return w(kind, x, **dict(zip(names, numbers, strict=True)))


@form("FusedConv", "X W B? Z?", **CONVOLUTION, **FUSED)
def write_fused_conv(w: Writer) -> str:
    """The activation of the convolution plus a map."""
    return activated(
        w, w.plus(w("Conv", w["X"], w["W"], w["B"], **w.some(list(CONVOLUTION))), w["Z"])
    )


@form(
    "FusedGemm",
    "A B C?",
    alpha=1.0,
    beta=1.0,
    transA=0,
    transB=0,
    activation=required(STRING),
    activation_alpha=optional(FLOAT),
    activation_beta=optional(FLOAT),
    activation_gamma=optional(FLOAT),
)
def write_fused_gemm(w: Writer) -> str:
    """The activation of Gemm."""
    kind = w.attribute("activation")
    prefix = "activation_"
    numbers = {
        n: w.attribute(prefix + n)
        for n in ("alpha", "beta", "gamma")
        if w.attribute(prefix + n) is not None
    }
    if kind not in ROW_ACTIVATIONS or numbers.keys() != set(ROW_ACTIVATIONS[kind]):
        raise NoPlainForm(f"activation {kind} with {list(numbers)}")
    gemm = w("Gemm", w["A"], w["B"], w["C"], **w.some(("alpha", "beta", "transA", "transB")))
    return w(kind, gemm, **numbers)


def product(w: Writer, batches: str = "") -> str:
    """The product of two factors that the attributes transpose, times a number.

    The first axis of the sides that `batches` names lies in front of their batches.
    """
    if w.attribute("transA") and w.known_rank(w["B"]) < 2:
        raise NoPlainForm("onnxruntime takes a factor in front of a vector in another order")
    sides = []
    for side in "AB":
        is_swapped, is_outside = w.attribute("trans" + side), side in batches
        order = list(range(w.known_rank(w[side]))) if is_swapped or is_outside else []
        if is_outside:
            order = [*order[1:-1], order[0], order[-1]]
        if is_swapped:
            order = [*order[:-2], *order[:-3:-1]]
        sides.append(w.transposed(w[side], order))
    return w.times(w("MatMul", *sides), w.attribute("alpha"))


@form("FusedMatMul", "A B", alpha=1.0, transA=0, transB=0, transBatchA=0, transBatchB=0)
def write_fused_matmul(w: Writer) -> str:
    """A product of factors of which either may be transposed, and have its rows in front of its batches."""
    batches = "".join(side for side in "AB" if w.attribute("transBatch" + side))
    if batches and not 2 < w.known_rank(w["A"]) == w.known_rank(w["B"]):
        raise NoPlainForm("onnxruntime refuses factors of other ranks")
    return product(w, batches)


@form("TransposeMatMul", "A B", alpha=1.0, transA=0, transB=0)
def write_transpose_matmul(w: Writer) -> str:
    """A product of factors of which either may be transposed."""
    return product(w)


@form("Gelu", "X")
def write_gelu(w: Writer) -> str:
    """Gelu of the default domain."""
    return w("Gelu", w["X"])


@form("BiasGelu", "A B")
def write_bias_gelu(w: Writer) -> str:
    """Gelu of a sum."""
    return w("Gelu", w.plus(w["A"], w["B"]))


@form("FastGelu", "X bias?")
def write_fast_gelu(w: Writer) -> str:
    """The approximation of Gelu with tanh, of a sum."""
    return w("Gelu", w.plus(w["X"], w["bias"]), approximate="tanh")


@form("QuickGelu", "X", alpha=1.702)
def write_quick_gelu(w: Writer) -> str:
    """``x * sigmoid(alpha * x)``."""
    return w("Mul", w["X"], w("Sigmoid", w.times(w["X"], w.attribute("alpha"))))


@form("GemmFastGelu", "X W bias?")
def write_gemm_fast_gelu(w: Writer) -> str:
    """FastGelu of a product."""
    return w("Gelu", w.plus(w("MatMul", w["X"], w["W"]), w["bias"]), approximate="tanh")


# ---- biases


@form("BiasAdd", "X bias skip")
def write_bias_add(w: Writer) -> str:
    """A sum of three."""
    return w.plus(w["X"], w["bias"], w["skip"])


@form("BiasSplitGelu", "X bias")
def write_bias_split_gelu(w: Writer) -> str:
    """The first half of the channels times Gelu of the second."""
    first, second = w.write_many(2, "Split", w.plus(w["X"], w["bias"]), axis=-1, num_outputs=2)
    return w("Mul", first, w("Gelu", second))


@form("BiasDropout", "data bias residual? ratio?", seed=optional(INT))
@form("BitmaskBiasDropout", "data bias residual? ratio?", seed=optional(INT))
def write_bias_dropout(w: Writer) -> str:
    """A sum: without the operand `training_mode` nothing is dropped, whatever the ratio."""
    return w.plus(w["data"], w["bias"], w["residual"])


@form("BiasSoftmax", "data bias", axis=1, is_inner_broadcast=required(INT))
def write_bias_softmax(w: Writer) -> str:
    """Softmax over all axes from `axis` on, of a sum.

    Before the sum data and bias are matrices. Each row of the bias is added to as many rows of the data that follow each
    other (inner broadcast), or the rows of the bias are added to the data's in turn.
    """
    rows = w("Flatten", w["data"], axis=w.attribute("axis"))
    row = w("Shape", rows, start=1)
    bias = w("Reshape", w["bias"], w("Concat", w.whole(-1), row, axis=0))
    many = w("Shape", bias, end=1)
    if w.attribute("is_inner_broadcast"):
        shape, bias = w("Concat", many, w.whole(-1), row, axis=0), w("Unsqueeze", bias, w.whole(1))
    else:
        shape = w("Concat", w.whole(-1), many, row, axis=0)
    probabilities = w("Softmax", w("Add", w("Reshape", rows, shape), bias), axis=-1)
    return w("Reshape", probabilities, w("Shape", w["data"]))


# ---- norms


def root_mean_square_normed(w: Writer, x: str, scale: str, axes: Sequence[int]) -> tuple[str, str]:
    """`x` over the root of its mean square, times a scale; and one over that root. The root is taken in single precision."""
    single = w("Cast", x, to=TensorProto.FLOAT)
    squares = w("ReduceMean", w("Mul", single, single), w.whole(*axes), keepdims=1)
    inverse = w(
        "Reciprocal", w("Sqrt", w("Add", squares, w.constant(w.attribute("epsilon"), np.float32)))
    )
    return w("Mul", w("CastLike", w("Mul", single, inverse), scale), scale), inverse


@form("SimplifiedLayerNormalization", "X scale", domain="", axis=-1, epsilon=1e-5, stash_type=1)
def write_simplified_layer_normalization(w: Writer) -> tuple[str, str]:
    """Every row over the root of its mean square."""
    axis = w.attribute("axis")
    if w.attribute("stash_type") != TensorProto.FLOAT:
        raise NoPlainForm("another precision")
    return root_mean_square_normed(
        w, w["X"], w["scale"], range(axis, w.known_rank(w["X"]) if axis >= 0 else 0)
    )


@form("SkipSimplifiedLayerNormalization", "input skip gamma bias?", epsilon=1e-12)
def write_skip_simplified_layer_normalization(w: Writer) -> tuple[str | None, ...]:
    """Of a sum every row over the root of its mean square, and the sum."""
    total = w.plus(w["input"], w["bias"], w["skip"])
    return root_mean_square_normed(w, total, w["gamma"], [-1])[0], None, None, total


@form("SkipLayerNormalization", "input skip gamma beta? bias?", epsilon=1e-12)
def write_skip_layer_normalization(w: Writer) -> tuple[str | None, ...]:
    """LayerNormalization of a sum, and the sum."""
    total = w.plus(w["input"], w["bias"], w["skip"])
    normed = w(
        "LayerNormalization", total, w["gamma"], w["beta"], axis=-1, epsilon=w.attribute("epsilon")
    )
    return normed, None, None, total


@form(
    "EmbedLayerNormalization",
    "input_ids segment_ids? word_embedding position_embedding segment_embedding? gamma beta mask? position_ids?",
    epsilon=1e-12,
    mask_index_type=optional(INT),
)
def write_embed_layer_normalization(w: Writer) -> tuple[str, str, str]:
    """LayerNormalization of a sum of rows of tables; how many tokens the mask keeps; the sum."""
    if bool(w["segment_ids"]) != bool(w["segment_embedding"]):
        raise NoPlainForm("segments without a table, or a table without segments")
    if w["position_ids"]:
        places = w("Gather", w["position_embedding"], w["position_ids"])
    else:
        length = w("Shape", w["input_ids"], start=1)
        places = w("Slice", w["position_embedding"], w.whole(0), length, w.whole(0))
    total = w("Add", w("Gather", w["word_embedding"], w["input_ids"]), places)
    if w["segment_ids"]:
        total = w("Add", total, w("Gather", w["segment_embedding"], w["segment_ids"]))
    normed = w(
        "LayerNormalization", total, w["gamma"], w["beta"], axis=-1, epsilon=w.attribute("epsilon")
    )
    return normed, tokens_kept(w), total


def tokens_kept(w: Writer) -> str:
    """How many entries of each row of the mask are one; without a mask zeros."""
    if not w["mask"]:
        zero = numpy_helper.from_array(np.zeros(1, np.int32))
        return w("ConstantOfShape", w("Shape", w["input_ids"], end=1), value=zero)
    is_kept = w("Equal", w["mask"], w.constant(1, np.int32))
    return w("ReduceSum", w("Cast", is_kept, to=TensorProto.INT32), w.whole(1), keepdims=0)


# ---- attention


def attended(w: Writer, parts: Sequence[str], mask: str, bias: str) -> str:
    """Attention of queries, keys and values of the shape [batch, place, head x dimension], without a past."""
    if w.attribute("unidirectional"):
        raise NoPlainForm("what comes later is masked")
    heads = w.whole(0, 0, w.attribute("num_heads"), -1)
    query, key, value = (w("Transpose", w("Reshape", x, heads), perm=[0, 2, 1, 3]) for x in parts)
    scores = w("MatMul", query, w("Transpose", key, perm=[0, 1, 3, 2]))
    if w.attribute("scale"):
        scores = w.times(scores, w.attribute("scale"))
    else:
        scores = w("Div", scores, w("Sqrt", w("CastLike", w("Shape", query, start=3), scores)))
    scores = w.plus(scores, bias, masked(w, mask, scores) if mask else "")
    seen = w("Transpose", w("MatMul", w("Softmax", scores, axis=-1), value), perm=[0, 2, 1, 3])
    return w("Reshape", seen, w.whole(0, 0, -1))


def masked(w: Writer, mask: str, scores: str) -> str:
    """What a mask [batch, key] or [batch, query, key] adds to scores [batch, head, query, key]: positive numbers keep."""
    axes = {2: (1, 2), 3: (1,)}.get(w.known_rank(mask))
    if axes is None:
        raise NoPlainForm("a mask that is no table of what is kept")
    is_kept = w("Greater", w("Unsqueeze", mask, w.whole(*axes)), w.constant(0, np.int32))
    return w(
        "Where", is_kept, w.number(0, scores), w.number(w.attribute("mask_filter_value"), scores)
    )


ATTENTION: dict[str, Any] = {
    "mask_filter_value": -10000.0,
    "num_heads": required(INT),
    "scale": optional(FLOAT),
    "unidirectional": 0,
}
"""The attributes of attention without a past."""


@form(
    "Attention",
    "input weights bias? mask_index? past? attention_bias?",
    **ATTENTION,
    qkv_hidden_sizes=optional(INTS),
)
def write_attention(w: Writer) -> str:
    """Attention whose queries, keys and values are one product."""
    if w["past"]:
        raise NoPlainForm("keys and values of the past")
    rows = w.plus(w("MatMul", w["input"], w["weights"]), w["bias"])
    widths = w.attribute("qkv_hidden_sizes")
    if widths is None:
        parts = w.write_many(3, "Split", rows, axis=-1, num_outputs=3)
    elif len(widths) == 3:
        parts = w.write_many(3, "Split", rows, w.whole(*widths), axis=-1)
    else:
        raise NoPlainForm("other parts than queries, keys and values")
    return attended(w, parts, w["mask_index"], w["attention_bias"])


@form(
    "MultiHeadAttention", "query key? value? bias? key_padding_mask? attention_bias?", **ATTENTION
)
def write_multi_head_attention(w: Writer) -> str:
    """Attention of queries, keys and values that are given apart; the bias is that of all three."""
    parts = [w["query"], w["key"], w["value"]]
    if not all(parts) or any(w.known_rank(part) != 3 for part in parts):
        raise NoPlainForm("keys or values are packed, or split into heads")
    if w["bias"]:
        widths = w("Concat", *(w("Shape", part, start=2) for part in parts), axis=0)
        biases = w.write_many(3, "Split", w["bias"], widths, axis=0)
        parts = [w("Add", part, bias) for part, bias in zip(parts, biases, strict=True)]
    return attended(w, parts, w["key_padding_mask"], w["attention_bias"])


# ---- maps with their channels on the last axis


def channels_moved(w: Writer, x: str, rank: int, to: int) -> str:
    """A map with its channels moved to axis 1, or to the last axis (-1)."""
    order = [0, rank - 1, *range(1, rank - 1)] if to == 1 else [0, *range(2, rank), 1]
    return w("Transpose", x, perm=order)


@form("NhwcFusedConv", "X W B? Z?", **CONVOLUTION, **FUSED)
def write_nhwc_fused_conv(w: Writer) -> str:
    """FusedConv of maps with their channels on the last axis; the weight is as that of Conv."""
    rank = w.known_rank(w["W"])
    x = channels_moved(w, w["X"], rank, 1)
    y = channels_moved(w, w("Conv", x, w["W"], w["B"], **w.some(list(CONVOLUTION))), rank, -1)
    return activated(w, w.plus(y, w["Z"]))


POOLING: dict[str, Any] = {
    "auto_pad": "NOTSET",
    "ceil_mode": 0,
    "dilations": optional(INTS),
    "kernel_shape": required(INTS),
    "pads": optional(INTS),
    "strides": optional(INTS),
}
"""The attributes of a pooling."""


def averaged(w: Writer, x: str) -> str:
    """AveragePool with the node's attributes."""
    if w.attribute("ceil_mode") and w.attribute("count_include_pad"):
        raise NoPlainForm(
            "onnxruntime's operators do not agree whether places behind the padding count"
        )
    names = [name for name in (*POOLING, "count_include_pad") if name in w.attributes]
    return w("AveragePool", x, **w.some(names))


@form("NhwcMaxPool", "x", **POOLING)
def write_nhwc_max_pool(w: Writer) -> str:
    """MaxPool of maps with their channels on the last axis."""
    rank = len(w.attribute("kernel_shape")) + 2
    x = channels_moved(w, w["x"], rank, 1)
    return channels_moved(w, w("MaxPool", x, **w.some(list(POOLING))), rank, -1)


# ---- quantised


def dequantised(w: Writer, x: str, scale: str, zero: str, axis: int | None = None) -> str:
    """The numbers that bytes stand for; along an axis they may have scales of their own."""
    if w.known_rank(scale) > 1 or (zero and w.known_rank(zero) != w.known_rank(scale)):
        raise NoPlainForm("a scale and a zero point for neither a whole tensor nor an axis")
    return w("DequantizeLinear", x, scale, zero, axis=axis)


def quantised(w: Writer, y: str, scale: str, zero: str) -> str:
    """The bytes that stand for numbers."""
    if not zero or w.known_rank(scale) > 1 or w.known_rank(zero) != w.known_rank(scale):
        raise NoPlainForm(
            "a result without a zero point, or with one of another shape than the scale's"
        )
    return w("QuantizeLinear", y, scale, zero)


@form("DequantizeLinear", "x x_scale x_zero_point?", axis=optional(INT))
def write_dequantize_linear(w: Writer) -> str:
    """DequantizeLinear of the default domain."""
    axis = w.attribute("axis")
    if axis is None and w.known_rank(w["x_scale"]):
        raise NoPlainForm("scales along an axis that is not given")
    return dequantised(w, w["x"], w["x_scale"], w["x_zero_point"], axis)


@form("QuantizeLinear", "x y_scale y_zero_point?", axis=optional(INT))
def write_quantize_linear(w: Writer) -> str:
    """QuantizeLinear of the default domain."""
    axis, scale, zero = w.attribute("axis"), w["y_scale"], w["y_zero_point"]
    rank = w.known_rank(scale)
    if rank > (axis is not None) or (zero and w.known_rank(zero) != rank):
        raise NoPlainForm("scales along an axis that is not given")
    return w("QuantizeLinear", w["x"], scale, zero, axis=axis)


PAIR = "A A_scale A_zero_point? B B_scale B_zero_point? C_scale C_zero_point?"
"""The operands of an operator on two maps of bytes."""
SINGLE = "X X_scale X_zero_point? Y_scale Y_zero_point?"
"""The operands of an operator on one map of bytes."""


def of_pair(w: Writer, operator: str) -> str:
    """An operator on the numbers that two maps of bytes stand for."""
    sides = (dequantised(w, w[x], w[x + "_scale"], w[x + "_zero_point"]) for x in "AB")
    return quantised(w, w(operator, *sides), w["C_scale"], w["C_zero_point"])


@form("QLinearAdd", PAIR)
def write_qlinear_add(w: Writer) -> str:
    """A sum of what bytes stand for."""
    return of_pair(w, "Add")


@form("QLinearMul", PAIR)
def write_qlinear_mul(w: Writer) -> str:
    """A product of what bytes stand for."""
    return of_pair(w, "Mul")


def of_single(w: Writer, compute: Callable[[str], str]) -> str:
    """What is computed with the numbers that a map of bytes stands for."""
    named = {name.lower(): tensor for name, tensor in w.operands.items()}
    x = dequantised(w, named["x"], named["x_scale"], named["x_zero_point"])
    return quantised(w, compute(x), named["y_scale"], named["y_zero_point"])


@form("QLinearLeakyRelu", SINGLE, alpha=0.01)
def write_qlinear_leaky_relu(w: Writer) -> str:
    """LeakyRelu of what bytes stand for."""
    return of_single(w, lambda x: w("LeakyRelu", x, alpha=w.attribute("alpha")))


@form("QLinearSigmoid", SINGLE)
def write_qlinear_sigmoid(w: Writer) -> str:
    """Sigmoid of what bytes stand for."""
    return of_single(w, lambda x: w("Sigmoid", x))


def with_channels_first(w: Writer, x: str, rank: int, compute: Callable[[str], str]) -> str:
    """What is computed with a map, which may have its channels on its last axis."""
    if not w.attribute("channels_last"):
        return compute(x)
    return channels_moved(w, compute(channels_moved(w, x, rank, 1)), rank, -1)


POOLED = "X x_scale x_zero_point? y_scale y_zero_point?"
"""The operands of a pooling of bytes."""


@form(
    "QLinearAveragePool",
    POOLED,
    auto_pad="NOTSET",
    ceil_mode=0,
    channels_last=0,
    count_include_pad=0,
    kernel_shape=required(INTS),
    pads=optional(INTS),
    strides=optional(INTS),
)
def write_qlinear_average_pool(w: Writer) -> str:
    """AveragePool of what bytes stand for."""
    rank = len(w.attribute("kernel_shape")) + 2
    return of_single(w, lambda x: with_channels_first(w, x, rank, lambda m: averaged(w, m)))


@form("QLinearGlobalAveragePool", POOLED.replace("?", ""), channels_last=0)
def write_qlinear_global_average_pool(w: Writer) -> str:
    """GlobalAveragePool of what bytes stand for."""
    rank = w.known_rank(w["X"])
    return of_single(
        w, lambda x: with_channels_first(w, x, rank, lambda m: w("GlobalAveragePool", m))
    )


@form("QLinearConcat", "Y_scale Y_zero_point ...", axis=required(INT))
def write_qlinear_concat(w: Writer) -> str:
    """Concat of what bytes stand for."""
    if not w.rest or len(w.rest) % 3:
        raise NoPlainForm("maps without scales and zero points")
    triples = zip(w.rest[::3], w.rest[1::3], w.rest[2::3], strict=True)
    joined = w("Concat", *(dequantised(w, *triple) for triple in triples), axis=w.attribute("axis"))
    return quantised(w, joined, w["Y_scale"], w["Y_zero_point"])


@form(
    "QGemm",
    "A a_scale a_zero_point B b_scale b_zero_point C? y_scale? y_zero_point?",
    alpha=1.0,
    transA=0,
    transB=0,
)
def write_qgemm(w: Writer) -> str:
    """Gemm of what bytes stand for; an addend of whole numbers counts products of both scales, and alpha is a factor of all."""
    alpha, is_turned = w.attribute("alpha"), w.attribute("transB")
    a = dequantised(w, w["A"], w["a_scale"], w["a_zero_point"])
    b = dequantised(w, w["B"], w["b_scale"], w["b_zero_point"], 0 if is_turned else 1)
    c = w["C"] and w(
        "Mul", w("Cast", w["C"], to=TensorProto.FLOAT), w("Mul", w["a_scale"], w["b_scale"])
    )
    y = w("Gemm", a, b, c, alpha=alpha, beta=alpha, **w.some(("transA", "transB")))
    return (
        quantised(w, y, w["y_scale"], w["y_zero_point"]) if w["y_scale"] or w["y_zero_point"] else y
    )


@form("MatMulIntegerToFloat", "A B a_scale b_scale a_zero_point? b_zero_point? bias?")
def write_matmul_integer_to_float(w: Writer) -> str:
    """The product of what bytes stand for; the columns of the second may have scales of their own."""
    a = dequantised(w, w["A"], w["a_scale"], w["a_zero_point"])
    b = dequantised(w, w["B"], w["b_scale"], w["b_zero_point"], -1)
    return w.plus(w("MatMul", a, b), w["bias"])


@form("DynamicQuantizeMatMul", "A B b_scale b_zero_point? bias?")
def write_dynamic_quantize_matmul(w: Writer) -> str:
    """The product of what is left of numbers as bytes with what bytes stand for."""
    a = w("DequantizeLinear", *w.write_many(3, "DynamicQuantizeLinear", w["A"]))
    b = dequantised(w, w["B"], w["b_scale"], w["b_zero_point"], -1)
    return w.plus(w("MatMul", a, b), w["bias"])
