"""Products with, and rows of, weights whose blocks have scales of their own.

Numbers of a block may change places, and so may blocks with their scales. Where several numbers
share a byte and not all that read the weight say so (`vocabulary.packing`), a permutation moves
whole bytes, and numbers that share one stay together.

Spec: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
"""

from __future__ import annotations

import math

import numpy as np

from ...errors import UnknownStructureError
from ...vocabulary.structure import MICROSOFT
from ..kinds import Equation, Kind, Node, Reshape, Take, require_rank, require_shape
from ..laws import SUM, Linear, Multilinear
from ..registry import register
from ..step_list import StepList
from .heads import Shape, find_operand

BLOCK_PRODUCT = Multilinear(factors=3)
"""Rows times a weight times the scales of its blocks."""


def count_shared(length: int, size: int) -> int:
    """Return how many numbers each element of a weight holds.

    Args:
        length: the numbers along an axis.
        size: the elements along it: bytes, or numbers where the file's bytes are shown apart.

    Raises:
        UnknownStructureError: a number lies in two elements, or the last one is not full.
    """
    if not size or length % size:
        raise UnknownStructureError("bytes that hold no whole numbers")
    return length // size


def require_whole_blocks(size: int, blocks: int) -> None:
    """Check that an axis of `size` bytes falls into so many blocks of whole bytes.

    Raises:
        UnknownStructureError: it does not.
    """
    if not blocks or size % blocks:
        raise UnknownStructureError("blocks that hold no whole bytes")


def tie_zero_points(
    w: StepList,
    weight: tuple[str, Shape],
    zeros: tuple[str, Shape],
    axis: int,
    is_flat: bool = False,
) -> None:
    """Add what ties the numbers of blocks to zero points, of which several may share a byte.

    Each number has its zero point taken off, whatever the scales are. What reads the weight comes
    first: it has the orders that its readers give it.

    Args:
        w: gets the steps.
        weight: the weight and its shape, with the numbers of a block along its own axis.
        zeros: the zero points, with the weight's shape but for that axis, and their own number of
            blocks along `axis`.
        axis: the axis of the blocks, counted from the front; the numbers of a block lie behind it.
        is_flat: whether the zero points are written as one row.
    """
    (name, shape), (beside, packed) = weight, zeros
    names = [f"x{k}" for k in range(len(shape))]
    rest = [n for k, n in enumerate(names) if k != axis + 1]
    # Zero points say nothing of the order inside a block.
    whole = w.relate(f"{' '.join(names)} -> {' '.join(rest)}", name)
    ours, theirs = list(rest), list(rest)
    if packed[axis] > shape[axis] and not is_flat:
        # What fills the last byte belongs to no block.
        beside = w.move(beside, Take(axis, np.arange(shape[axis])))
    elif packed[axis] != shape[axis]:
        # Several share a byte, or a byte is half full: blocks keep their order.
        ours[axis], theirs[axis] = "[c]", "[q]"
    left, right = " ".join(ours), " ".join(theirs)
    w.relate(f"{left}, {right} -> {left}", whole, beside)


def multiply_blocks(
    w: StepList, node: Node, rows: tuple[str, Shape], first: int, places: tuple[int | None, ...]
) -> str:
    """Add the product of rows with a weight in blocks, [columns, blocks, bytes].

    Args:
        w: gets the steps.
        node: the node.
        rows: the rows and their shape, [.., numbers].
        first: the operand with the weight.
        places: the operands with its scales, its zero points and the bias of the columns; None for
            one that the operator does not have.
    """
    _, shape = rows
    columns, blocks, _ = require_shape(node, first)
    zeros, bias = (find_operand(node, k) for k in places[1:])
    # Scales and zero points may be written as one row.
    scales = w.move(str(places[0]), Reshape((columns, blocks)))
    y = w.combine(*_multiply_parts(w, node, rows, first, scales), law=Linear())
    if bias is not None:
        left = " ".join(f"b{k}" for k in range(len(shape) - 1))
        y = w.relate(f"{left} n, n -> {left} n", y, str(places[2]), law=SUM)
    if zeros is not None:
        packed = (columns, math.prod(zeros) // columns)
        laid = w.move(str(places[1]), Reshape(packed))
        shape = require_shape(node, first)
        tie_zero_points(w, (str(first), shape), (laid, packed), 1, is_flat=len(zeros) == 1)
    return y


def _multiply_parts(
    w: StepList, node: Node, rows: tuple[str, Shape], first: int, scales: str
) -> list[str]:
    """Add the products with the whole blocks of a weight, and with the last one if it is cut."""
    name, shape = rows
    _, blocks, size = require_shape(node, first)
    left = " ".join(f"b{k}" for k in range(len(shape) - 1))
    block, length = int(node.attributes["block_size"]), shape[-1]
    whole, rest = divmod(length, block)
    shared = block // size
    if block % size or rest % shared or whole + (rest > 0) != blocks:
        # Columns are free all the same.
        text = f"{left} [k], n [c] [p], n [c] -> {left} n"
        return [w.relate(text, name, str(first), scales, law=BLOCK_PRODUCT)]
    text = f"{left} (c p [z]), n c p, n c -> {left} n"
    if not rest:
        return [w.relate(text, name, str(first), scales, law=BLOCK_PRODUCT, z=shared)]
    made = []
    for start, stop, count in ((0, whole, size), (whole, blocks, rest // shared)):
        if start == stop:
            continue
        numbers, taken = np.arange(start * block, min(stop * block, length)), np.arange(start, stop)
        weight = w.move(w.move(str(first), Take(1, taken)), Take(2, np.arange(count)))
        met = (w.move(name, Take(len(shape) - 1, numbers)), weight, w.move(scales, Take(1, taken)))
        made.append(w.relate(text, *met, law=BLOCK_PRODUCT, z=shared))
    return made


def find_product_shape(node: Node) -> list[Shape]:
    """Return the shape of a product with a weight whose columns an attribute counts."""
    is_turned = node.attributes.get("transB", 1)
    return [(*require_shape(node)[:-1], int(node.attributes["N" if is_turned else "K"]))]


def _require_plain_layout(node: Node) -> None:
    """Check that a weight is written as the specification says.

    Raises:
        UnknownStructureError: it is in the layout of a processor.
    """
    if node.attributes.get("weight_prepacked"):
        raise UnknownStructureError("a weight in the layout of a processor")


@register("MatMulNBits", domain=MICROSOFT, shape=find_product_shape)
def describe_block_product(node: Node) -> Kind:
    """Columns are free, blocks of rows with their scales, and in each block its bytes."""
    # The operands: 0 A, 1 B, 2 scales, 3 zero_points, 4 g_idx, 5 bias.
    _require_plain_layout(node)
    if find_operand(node, 4) is not None:
        raise UnknownStructureError("an index of groups")
    w = StepList()
    return w.finish(multiply_blocks(w, node, ("0", require_shape(node)), 1, (2, 3, 5)))


@register("MatMulNBitsMlp", "MatMulNBitsQkv", domain=MICROSOFT)
def describe_block_products(node: Node) -> Kind:
    """A norm of rows, of a sum, and products with weights in blocks; gates are multiplied."""
    # The operands: 0 A, 1 skip, 2 the norm's gain, and triples of weight, scales and bias.
    w, shape = StepList(), require_shape(node)
    total = w.combine("0", *(["1"] if find_operand(node, 1) is not None else []))
    rows = total
    if find_operand(node, 2) is not None:
        left = " ".join(f"b{k}" for k in range(len(shape) - 1))
        rows = w.relate(f"{left} {{k}}, k -> {left} k", total, "2")
    is_gated = node.operator == "MatMulNBitsMlp"
    made = [
        multiply_blocks(w, node, (rows, shape), first, (first + 1, None, first + 2))
        for first in ((3, 6) if is_gated else (3, 6, 9))
    ]
    results = [w.combine(*made), total] if is_gated else [*made, total]
    return w.finish(*results[: node.results])


@register("MatMulBlockQuantizedFp8Weight", "MatMulBlockQuantizedFp4Weight", domain=MICROSOFT)
def describe_float_block_product(node: Node) -> Kind:
    """Columns are free, blocks of rows with their scales, and in each block its bytes."""
    # The operands: 0 A, 1 B, 2 the scales of blocks, 3 one more scale, 4 and 5 bias.
    w, shape, (_, size), (_, blocks) = StepList(), *(require_shape(node, k) for k in range(3))
    bias = 5 if node.operator.endswith("Fp4Weight") else 4
    left = " ".join(f"b{k}" for k in range(len(shape) - 1))
    block = int(node.attributes.get("block_size", 16 if bias == 5 else 128))
    sides, sizes = f"{left} (c p [z]), n (c p), n c", {"z": shape[-1] // size, "c": blocks}
    if shape[-1] != blocks * block:
        sides, sizes = f"{left} [k], n [p], n [c]", {}
    met = ["0", "1", "2"]
    if find_operand(node, bias) is not None:
        sides += ", n"
        met.append(str(bias))
    return w.finish(w.apply(Equation(f"{sides} -> {left} n", sizes), *met))


@register("MatMulBnb4", domain=MICROSOFT, shape=find_product_shape)
def describe_flat_block_product(node: Node) -> Kind:
    """Blocks of a flattened weight with their scales, of rows or in rows, and bytes in each."""
    # The operands: 0 A, 1 B, numbers of four bits, 2 absmax, a scale of each block.
    rows, inner = int(node.attributes["N"]), int(node.attributes["K"])
    block, shape, w = int(node.attributes["block_size"]), require_shape(node), StepList()
    left = " ".join(f"b{k}" for k in range(len(shape) - 1))
    if inner % 2 or (inner % block and block % inner) or (rows * inner) % block:
        raise UnknownStructureError("a block that ends inside a row")
    shared = count_shared(rows * inner, math.prod(require_shape(node, 1)))
    if shared not in (1, 2):
        raise UnknownStructureError("numbers that are not of four bits")
    if inner % block == 0:
        outer, numbers, laid, scaled = "n", "c p [z]", "n c p", "n c"
        wide: Shape = (rows, inner // block, block // shared)
        many: Shape = wide[:2]
    else:
        # Several rows have one scale.
        outer, numbers, laid, scaled = "m q", "p [z]", "m q p", "m"
        wide = (rows * inner // block, block // inner, inner // shared)
        many = wide[:1]
    is_turned = bool(node.attributes.get("transB", 1))
    read, made = (numbers, outer) if is_turned else (outer, numbers)
    weight, scales = w.move("1", Reshape(wide)), w.move("2", Reshape(many))
    text = f"{left} ({read}), {laid}, {scaled} -> {left} {made}"
    y = w.relate(text, "0", weight, scales, law=BLOCK_PRODUCT, z=shared)
    return w.finish(w.move(y, Reshape((*shape[:-1], rows if is_turned else inner))))


@register("GatherBlockQuantized", domain=MICROSOFT, typed_like=2)
def describe_block_gather(node: Node) -> Kind:
    """Rows that are gathered keep their order; blocks are free, and in each block its bytes.

    Raises:
        UnknownStructureError: it is not known how many numbers share a byte, or a block is cut.
    """
    w, shape, scales = StepList(), require_shape(node), require_shape(node, 2)
    rank, zeros = len(shape), find_operand(node, 3)
    gathered = int(node.attributes.get("gather_axis", 0)) % rank
    axis = int(node.attributes.get("quantize_axis", 1)) % rank
    # The numbers: as many along the axis as there are in the blocks, elsewhere as there are scales.
    numbers = [*scales]
    numbers[axis] = scales[axis] * int(node.attributes.get("block_size", 128))
    shared = count_shared(numbers[-1], shape[-1])
    # A row of one block may be shorter for another reason, too: because it is cut.
    is_cut = shared > 1 and (axis < rank - 1 or scales[axis] == 1)
    if is_cut or any(n != m for n, m in zip(numbers[:-1], shape[:-1], strict=True)):
        raise UnknownStructureError("a block that is cut")
    # Each byte has the scale of its block.
    scale = w.move("2", Take(axis, np.arange(shape[axis]) * scales[axis] // shape[axis]))
    names = [f"x{k}" for k in range(rank)]
    names[gathered] = "[v]"
    places = [f"i{k}" for k in range(require_rank(node, 1))]
    made = [*names[:gathered], *places, *names[gathered + 1 :], "[z]"]
    sides = ", ".join(" ".join(side) for side in (names, places, names))
    y = w.relate(f"{sides} -> {' '.join(made)}", "0", "1", scale, z=shared)
    if zeros is not None:
        wide = (*shape[:axis], scales[axis], shape[axis] // scales[axis], *shape[axis + 1 :])
        tie_zero_points(w, (w.move("0", Reshape(wide)), wide), ("3", zeros), axis)
    numbers[gathered : gathered + 1] = require_shape(node, 1)
    return w.finish(w.move(y, Reshape(tuple(numbers))))
