"""Marks and stamps of random graphs, through honest rewrites and every element of the symmetry."""

from __future__ import annotations

import numpy as np
import onnx
from hypothesis import assume, event, given
from hypothesis import strategies as st

import lady_onnx as lady
from lady_onnx.watermark.embedding import count_capacity, embed_mark
from lady_onnx.watermark.extraction import extract_mark
from lady_onnx.watermark.schemes.interface import SCHEMES
from lady_onnx.watermark.secrets.keys import Key
from lady_onnx.watermark.stamping import count_stamp_capacity, open_original, write_stamp
from lady_onnx.watermark.tracing import read_stamp

from ..helpers import disguises
from ..helpers.law import examples
from ..helpers.networks import weights
from ..helpers.strategies import graphs

KEY, PAYLOAD = Key(bytes(31) + b"k"), b"!"
TIMES = 32
"""Networks so many times as wide as usual have room."""
BLOCKED = "ReorderOutput"
"""Of onnxruntime alone: channels in blocks, for one kind of processor. Such files are refused."""
Grown = tuple[onnx.ModelProto, list[int]]


def is_blocked(model: onnx.ModelProto) -> bool:
    return any(n.op_type == BLOCKED for n in model.graph.node)


WEAK = ("spread", 0.45)
"""A scheme, and a strength of it that is read beside the unmarked model alone."""


@examples(20)
@given(
    graphs(4, times=TIMES),
    st.sampled_from([*((scheme, None) for scheme in SCHEMES), WEAK]),
    st.integers(0, 2**32),
)
def test_marks_are_read_from_every_form(
    grown: Grown, way: tuple[str, float | None], seed: int
) -> None:
    (model, _), (scheme, strength) = grown, way
    assume(count_capacity(model, scheme)[1])
    marked = embed_mark(model, KEY, PAYLOAD, scheme=scheme, strength=strength)
    written, done = disguises.disguise(marked.model, np.random.default_rng(seed))
    event(", ".join(sorted(set(done))))
    found = extract_mark(
        written, KEY, marked.mark, reference=marked.graph, unmarked=model if strength else None
    )
    if found.refusal is not None:
        assert is_blocked(written)
        return
    assert found.payload == PAYLOAD
    assert found.put_back is not None
    assert found.put_back.wrong == 0


@examples(20)
@given(graphs(4, times=TIMES), st.integers(0, 2**32))
def test_stamps_are_read_from_every_form(grown: Grown, seed: int) -> None:
    original = open_original(grown[0], KEY)
    assume(count_stamp_capacity(original).payload_bytes)
    stamped = write_stamp(original, PAYLOAD)
    assert lady.verify(grown[0], stamped.model, samples=2).equal
    for name, array in weights(stamped.model).items():
        assert np.array_equal(np.sort(array.ravel()), np.sort(weights(grown[0])[name].ravel()))
    ways = [way for way in disguises.DISGUISES if way is not disguises.permute]
    written, _ = disguises.disguise(stamped.model, np.random.default_rng(seed), ways=ways)
    found = read_stamp(original, written)
    if found.refusal is not None:
        assert is_blocked(written)
        return
    assert (found.payload, found.corrected) == (PAYLOAD, 0)
