"""Language models with a cache: closed forms of the loop, and the law in a loop of three calls."""

from __future__ import annotations

import onnx
import pytest

import lady_onnx as lady

from ..helpers import decoders, genai

STREAM, HIDDEN, WIDTH, PAIRS, HEADS, KEY_HEADS = 64, 112, 16, 8, 4, 2
"""The sizes of onnxruntime-genai's models of two layers."""
FLOATS = [n for n in genai.list_models() if "int4" not in n and "gpt-oss" not in n]
IN_BLOCKS = [n for n in genai.list_models() if "int4" in n]
BLOCK = 32
"""The numbers that have a scale in common in the models of four bits."""
QUICK = ("llama-fp32", "qwen3-fp16", "gemma3-fp32", "phi3-long-fp32")


def check_loop(model: onnx.ModelProto, expected: list[int]) -> None:
    """Closed form, law in the loop, exact resync, and the verdict."""
    symmetry = lady.find_groups(model)
    assert sorted(g.size for g in symmetry.groups) == sorted(expected)
    assert all(s.groups for s in symmetry.states)
    assert not symmetry.unknown_operators
    shuffled = lady.permute(model, seed=3)
    assert len(shuffled.moved_states) == len(symmetry.states) == 4
    # no CPU runs norms inside attention
    found = lady.verify(*map(genai.spell_out_norms, (model, shuffled.model)))
    assert found.equal, found
    assert len(found.outputs) == 3
    result = lady.resync(model, shuffled.model, verify="none")
    assert result.max_weight_difference == 0
    assert lady.check(model, shuffled.model).verdict == "permuted"


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in QUICK else pytest.mark.long) for n in FLOATS]
)
def test_models_of_onnxruntime_genai(name: str) -> None:
    """In each layer hidden units, heads of keys, heads of queries and values in each of these."""
    layer = [HIDDEN, KEY_HEADS, *[HEADS // KEY_HEADS, WIDTH] * KEY_HEADS]
    check_loop(genai.make_model(name), [STREAM, PAIRS, *layer, *layer])


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=() if n == "llama-int4" else pytest.mark.long) for n in IN_BLOCKS],
)
def test_models_in_blocks_of_four_bits(name: str) -> None:
    """A scale for each 32 numbers of a row of a weight.

    A unit of the axis along rows never leaves the units that it has a scale in common with. So the
    stream is an order of two blocks, and one in each. The 112 hidden units of a layer are three
    blocks, in any order, with an order in each, and half a block. Both queries of a head of keys
    make a block: heads, queries and dimensions are as in floats. Rotary pairs meet no scales.

    Gemma reads its embedding through a Reshape, which counts bytes: two numbers of the stream that
    share a byte stay together.
    """
    heads = [KEY_HEADS, *[HEADS // KEY_HEADS, WIDTH] * KEY_HEADS]
    hidden = [HIDDEN // BLOCK, *[BLOCK] * (HIDDEN // BLOCK), HIDDEN % BLOCK]
    shared = 2 if "gemma" in name else 1
    stream = [STREAM // BLOCK, *[BLOCK // shared] * (STREAM // BLOCK)]
    check_loop(genai.make_model(name), [*stream, PAIRS, *[*heads, *hidden] * 2])


@pytest.mark.parametrize("name", decoders.EXPECTED)
def test_traced_decoders(name: str) -> None:
    check_loop(decoders.make_decoder(name), decoders.EXPECTED[name])


def test_what_an_encoder_gives_pins_the_queries_that_meet_it() -> None:
    """Its keys are inputs: every dimension of a query stands alone, and is listed as pinned."""
    pinned = lady.find_groups(decoders.make_decoder("whisper")).pinned
    biases = {p.initializer: p.reason for p in pinned if "encoder_attn.q_proj" in p.initializer}
    assert len(biases) == 2
    assert set(biases.values()) == {"graph input"}
