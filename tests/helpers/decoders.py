"""Decoders with a cache of keys and values, as PyTorch traces them from transformers.

Names and symbolic lengths are those that optimum gives.
"""

from __future__ import annotations

import io
import warnings
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from .export_cache import read_or_make

BATCH, PAST, STEP, SOURCE = 2, 5, 3, 16
"""The sizes at which a decoder is traced; it is run at others."""
HEADS, KEY_HEADS, WIDTH = 4, 2, 12
"""Heads, heads of keys where these are shared, and dimensions of a head."""
HIDDEN = 56
"""Hidden units of a layer where a configuration names them."""
SIZES: dict[str, Any] = {
    "vocab_size": 96,
    "hidden_size": HEADS * WIDTH,
    "intermediate_size": HIDDEN,
    "num_hidden_layers": 2,
    "num_attention_heads": HEADS,
    "max_position_embeddings": 64,
}
STREAM = HEADS * WIDTH
PLAIN = [*[WIDTH] * (4 * HEADS), HEADS, HEADS]
"""The groups of two layers of attention: heads, and keys and values of each."""
SHARED = [*[WIDTH] * (2 * KEY_HEADS), *[HEADS // KEY_HEADS] * (2 * KEY_HEADS), *[KEY_HEADS] * 2]
"""The same with shared keys, turned by angles: values, heads of queries, heads of keys."""
EXPECTED = {
    # the pairs that are turned have one order common to all heads and layers
    "llama": [STREAM, WIDTH // 2, *SHARED, HIDDEN, HIDDEN],
    "qwen3": [STREAM, WIDTH // 2, *SHARED, HIDDEN, HIDDEN],
    "gpt2": [STREAM, *PLAIN, 4 * STREAM, 4 * STREAM],
    # one slope a head, and the slopes are common to both layers
    "bloom": [STREAM, *PLAIN[:-1], 4 * STREAM, 4 * STREAM],
    # one bias of positions a head, and it is common to both layers
    "t5": [STREAM, *PLAIN[:-1], HIDDEN, HIDDEN],
    "whisper": [STREAM, *PLAIN, HIDDEN, HIDDEN],
}
"""The sizes of the groups of each decoder. Keys and values of an encoder are inputs, and pinned."""


def _list_caches(cache: Any) -> list[Tensor]:
    return [x for layer in cache.layers for x in (layer.keys, layer.values)]


class Decoder(nn.Module):
    """A decoder whose cache goes in and comes out as single tensors."""

    def __init__(self, net: nn.Module, has_positions: bool) -> None:
        super().__init__()
        self.net, self.has_positions = net, has_positions

    def forward(self, ids: Tensor, mask: Tensor, places: Tensor, *past: Tensor) -> Any:
        from transformers.cache_utils import DynamicCache

        cache = DynamicCache([past[k : k + 2] for k in range(0, len(past), 2)])
        more = {"position_ids": places} if self.has_positions else {}
        found = self.net(
            input_ids=ids, attention_mask=mask, past_key_values=cache, use_cache=True, **more
        )
        return found.logits, *_list_caches(found.past_key_values)


class CrossDecoder(nn.Module):
    """The same behind an encoder, whose keys and values are inputs as well."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, ids: Tensor, encoded: Tensor, *past: Tensor) -> Any:
        from transformers.cache_utils import DynamicCache, EncoderDecoderCache

        layers = range(0, len(past), 4)
        own = DynamicCache([past[k : k + 2] for k in layers])
        cross = DynamicCache([past[k + 2 : k + 4] for k in layers])
        found = self.net(
            decoder_input_ids=ids,
            encoder_outputs=(encoded,),
            past_key_values=EncoderDecoderCache(own, cross),
            use_cache=True,
        )
        return found.logits, *_list_caches(found.past_key_values.self_attention_cache)


def _make_net(name: str) -> nn.Module:
    import transformers as t

    special = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    torch.manual_seed(0)
    match name:
        case "llama":
            config = t.LlamaConfig(**SIZES, **special, num_key_value_heads=KEY_HEADS)
            net: Any = t.LlamaForCausalLM(config)
        case "qwen3":
            config = t.Qwen3Config(
                **SIZES, **special, num_key_value_heads=KEY_HEADS, head_dim=WIDTH
            )
            net = t.Qwen3ForCausalLM(config)
        case "gpt2":
            sizes = {"n_embd": STREAM, "n_layer": 2, "n_head": HEADS, "n_positions": 64}
            net = t.GPT2LMHeadModel(t.GPT2Config(vocab_size=96, **sizes, **special))
        case "bloom":
            sizes = {"hidden_size": STREAM, "n_layer": 2, "n_head": HEADS}
            net = t.BloomForCausalLM(t.BloomConfig(vocab_size=96, **sizes, **special))
        case "t5":
            sizes = {"d_model": STREAM, "d_kv": WIDTH, "d_ff": HIDDEN, "num_layers": 2}
            config = t.T5Config(vocab_size=96, **sizes, num_heads=HEADS, decoder_start_token_id=0)
            net = t.T5ForConditionalGeneration(config)
        case "whisper":
            sides = {
                f"{side}_{what}": n
                for side in ("encoder", "decoder")
                for what, n in (("layers", 2), ("attention_heads", HEADS), ("ffn_dim", HIDDEN))
            }
            lengths = {"max_source_positions": SOURCE, "max_target_positions": 64}
            config = t.WhisperConfig(
                vocab_size=96,
                d_model=STREAM,
                **sides,
                **lengths,
                **special,
                num_mel_bins=8,
                decoder_start_token_id=1,
            )
            net = t.WhisperForConditionalGeneration(config)
        case _:
            raise ValueError(name)
    net.config._attn_implementation = "eager"
    for parameter in net.parameters():
        # small enough that no softmax saturates
        parameter.data = parameter.data + 0.15 * torch.randn_like(parameter)
    return net.eval()


def _describe(name: str) -> tuple[nn.Module, tuple, list[str], list[str], dict]:
    """The module, its example inputs, the names of inputs and outputs, and symbolic lengths."""
    net = _make_net(name)
    key_heads = KEY_HEADS if name in ("llama", "qwen3") else HEADS
    pairs = [f"{k}.{what}" for k in range(2) for what in ("key", "value")]
    if name in ("t5", "whisper"):
        sides = [
            f"{k}.{s}.{w}"
            for k in range(2)
            for s in ("decoder", "encoder")
            for w in ("key", "value")
        ]
        past = [torch.randn(BATCH, HEADS, PAST if "decoder" in s else SOURCE, WIDTH) for s in sides]
        example = (torch.randint(0, 96, (BATCH, 1)), torch.randn(BATCH, SOURCE, STREAM), *past)
        inputs = ["input_ids", "encoder_hidden_states", *(f"past_key_values.{s}" for s in sides)]
        outputs = [
            "logits",
            *(f"present.{k}.decoder.{w}" for k in range(2) for w in ("key", "value")),
        ]
        lengths = {"decoder": "past_length", "encoder": "source_length"}
        axes = {
            n: {0: "batch", 2: lengths[n.split(".")[2]]} if "." in n else {0: "batch"}
            for n in inputs
        }
        axes |= {n: {0: "batch", 2: "past_length + 1"} for n in outputs[1:]}
        return CrossDecoder(net), example, inputs, outputs, axes
    past = [torch.randn(BATCH, key_heads, PAST, WIDTH) for _ in pairs]
    example = (
        torch.randint(0, 96, (BATCH, STEP)),
        torch.ones(BATCH, PAST + STEP, dtype=torch.int64),
        torch.arange(PAST, PAST + STEP)[None].repeat(BATCH, 1),
        *past,
    )
    inputs = ["input_ids", "attention_mask", "position_ids"]
    inputs += [f"past_key_values.{p}" for p in pairs]
    outputs = ["logits", *(f"present.{p}" for p in pairs)]
    total = "past_length + step_length"
    step = {0: "batch", 1: "step_length"}
    axes = {"input_ids": step, "position_ids": step, "attention_mask": {0: "batch", 1: total}}
    axes |= {n: {0: "batch", 2: "past_length"} for n in inputs[3:]}
    axes |= {n: {0: "batch", 2: total} for n in outputs[1:]}
    return Decoder(net, name != "bloom"), example, inputs, outputs, axes


def _trace(name: str) -> onnx.ModelProto:
    module, example, inputs, outputs, axes = _describe(name)
    buffer = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            example,
            buffer,
            input_names=inputs,
            output_names=outputs,
            dynamic_axes=axes,
            opset_version=17,
            dynamo=False,
        )
    return onnx.load_from_string(buffer.getvalue())


def make_decoder(name: str) -> onnx.ModelProto:
    """A decoder of `EXPECTED`, traced with its cache."""
    return read_or_make(f"decoder-{name}", lambda: _trace(name))
