"""Maps whose channels lie last."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from lady_onnx.vocabulary.structure import MICROSOFT

from ..draws import Draw, activation, maybe, pooling, reals
from .base import Case, case, defined, node_of, run, size
from .products import convolution


@case("NhwcFusedConv")
def nhwc_fused_conv(draw: Draw) -> Case:
    attributes, (x, weight, bias) = convolution(draw)
    x = np.moveaxis(x, 1, -1)
    without = Case([x, weight, bias], attributes)
    addend = maybe(draw, lambda: reals(draw, *defined_nhwc_fused_conv(without).shape))
    return Case([x, weight, bias, addend], attributes | activation(draw))


@defined("NhwcFusedConv")
def defined_nhwc_fused_conv(drawn: Case) -> np.ndarray:
    x, weight, *others = drawn.operands
    assert x is not None
    maps = [None if v is None else np.moveaxis(v, -1, 1) for v in (x, *others[1:])]
    node, feeds = node_of(
        "FusedConv", MICROSOFT, Case([maps[0], weight, *others[:1], *maps[1:]], drawn.attributes)
    )
    return np.moveaxis(run([node], feeds, ["r0"])[0], 1, -1)


@case("NhwcMaxPool")
def nhwc_max_pool(draw: Draw) -> Case:
    attributes, axes = pooling(draw), 2
    generator = np.random.default_rng(draw(st.integers(0, 99)))
    kind = draw(st.sampled_from([np.int8, np.uint8]))
    shape = (2, *(draw(st.integers(6, 7)) for _ in range(axes)), size(draw))
    return Case([generator.integers(0, 100, shape).astype(kind)], attributes)
