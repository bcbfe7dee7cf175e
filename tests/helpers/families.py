"""Small random models of the transformers library, each as a function of plain tensors."""

from __future__ import annotations

from typing import Any

import torch
import transformers as hf
from torch import Tensor, nn

SMALL = {"vocab_size": 30, "hidden_size": 24, "intermediate_size": 20, "num_hidden_layers": 2}
"""What the small language models share."""
Family = tuple[nn.Module, tuple[Tensor, ...]]


class Wrapped(nn.Module):
    """A transformers model as a function of plain tensors that returns one."""

    def __init__(self, model: nn.Module, output: str, *names: str, **constants: Any):
        super().__init__()
        self.model, self.output, self.names, self.constants = model, output, names, constants

    def forward(self, *inputs: Tensor) -> Tensor:
        given = dict(zip(self.names, inputs, strict=True))
        return getattr(self.model(**given, **self.constants), self.output)


def _vision(kind: str, config: Any, output: str = "logits", size: int = 32) -> Family:
    config._attn_implementation = "eager"
    model = getattr(hf, kind)(config)
    return Wrapped(model, output, "pixel_values"), (torch.randn(1, 3, size, size),)


def _text(kind: str, config: Any, words: int, **constants: Any) -> Family:
    config._attn_implementation = "eager"
    inputs = (torch.randint(0, words, (1, 7)), torch.ones(1, 7, dtype=torch.long))
    return Wrapped(
        getattr(hf, kind)(config), "logits", "input_ids", "attention_mask", **constants
    ), inputs


def vit() -> Family:
    sizes = {
        "hidden_size": 24,
        "num_attention_heads": 3,
        "intermediate_size": 20,
        "num_hidden_layers": 2,
    }
    return _vision(
        "ViTForImageClassification",
        hf.ViTConfig(**sizes, image_size=32, patch_size=8, num_labels=5),
    )


def deit() -> Family:
    sizes = {
        "hidden_size": 24,
        "num_attention_heads": 3,
        "intermediate_size": 20,
        "num_hidden_layers": 2,
    }
    config = hf.DeiTConfig(**sizes, image_size=32, patch_size=8, num_labels=5)
    return _vision("DeiTForImageClassificationWithTeacher", config)


def swin() -> Family:
    config = hf.SwinConfig(
        image_size=32,
        patch_size=2,
        embed_dim=12,
        depths=[2, 2],
        num_heads=[2, 3],
        window_size=4,
        mlp_ratio=1.5,
        num_labels=5,
    )
    return _vision("SwinForImageClassification", config)


def swinv2() -> Family:
    config = hf.Swinv2Config(
        image_size=32,
        patch_size=2,
        embed_dim=12,
        depths=[2, 2],
        num_heads=[2, 3],
        window_size=4,
        mlp_ratio=1.5,
        num_labels=5,
    )
    return _vision("Swinv2ForImageClassification", config)


def bert() -> Family:
    config = hf.BertConfig(
        **SMALL,
        num_attention_heads=3,
        num_labels=5,
        max_position_embeddings=16,
    )
    return _text("BertForSequenceClassification", config, 30)


def gpt2() -> Family:
    config = hf.GPT2Config(
        n_embd=24, n_head=3, n_inner=20, n_layer=2, vocab_size=30, n_positions=16
    )
    return _text("GPT2LMHeadModel", config, 30, use_cache=False)


def llama() -> Family:
    config = hf.LlamaConfig(
        **SMALL,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=16,
    )
    return _text("LlamaForCausalLM", config, 30, use_cache=False)


def qwen3() -> Family:
    config = hf.Qwen3Config(
        **SMALL,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=6,
        max_position_embeddings=16,
    )
    return _text("Qwen3ForCausalLM", config, 30, use_cache=False)


def gpt_neox() -> Family:
    config = hf.GPTNeoXConfig(
        **SMALL,
        num_attention_heads=3,
        max_position_embeddings=16,
        rope_parameters={
            "rope_type": "default",
            "rope_theta": 10000.0,
            "partial_rotary_factor": 0.5,
        },
    )
    return _text("GPTNeoXForCausalLM", config, 30, use_cache=False)


def bloom() -> Family:
    config = hf.BloomConfig(vocab_size=30, hidden_size=24, n_head=3, n_layer=2)
    return _text("BloomForCausalLM", config, 30, use_cache=False)


def falcon() -> Family:
    config = hf.FalconConfig(
        vocab_size=30,
        hidden_size=24,
        num_attention_heads=3,
        num_hidden_layers=2,
        ffn_hidden_size=20,
    )
    return _text("FalconForCausalLM", config, 30, use_cache=False)


def t5() -> Family:
    config = hf.T5Config(
        vocab_size=30,
        d_model=24,
        d_kv=6,
        num_heads=3,
        d_ff=20,
        num_layers=2,
        num_decoder_layers=2,
        decoder_start_token_id=0,
        use_cache=False,
    )
    config._attn_implementation = "eager"
    names = ("input_ids", "attention_mask", "decoder_input_ids")
    inputs = (
        torch.randint(0, 30, (1, 7)),
        torch.ones(1, 7, dtype=torch.long),
        torch.randint(0, 30, (1, 5)),
    )
    return Wrapped(hf.T5ForConditionalGeneration(config), "logits", *names, use_cache=False), inputs


def whisper() -> Family:
    config = hf.WhisperConfig(
        vocab_size=30,
        d_model=24,
        encoder_attention_heads=3,
        decoder_attention_heads=3,
        encoder_layers=2,
        decoder_layers=2,
        encoder_ffn_dim=20,
        decoder_ffn_dim=20,
        num_mel_bins=10,
        max_source_positions=12,
        max_target_positions=16,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
        use_cache=False,
    )
    config._attn_implementation = "eager"
    inputs = (torch.randn(1, 10, 24), torch.randint(0, 30, (1, 5)))
    return Wrapped(
        hf.WhisperForConditionalGeneration(config),
        "logits",
        "input_features",
        "decoder_input_ids",
        use_cache=False,
    ), inputs


def convnext() -> Family:
    config = hf.ConvNextConfig(depths=[2, 1, 1, 1], hidden_sizes=[8, 12, 16, 20], num_labels=5)
    return _vision("ConvNextForImageClassification", config, size=64)


def mobilenet_v2() -> Family:
    config = hf.MobileNetV2Config(depth_multiplier=0.35, image_size=64, num_labels=5)
    return _vision("MobileNetV2ForImageClassification", config, size=64)


def resnet() -> Family:
    config = hf.ResNetConfig(
        embedding_size=8, hidden_sizes=[16, 24, 32, 40], depths=[2, 1, 1, 1], num_labels=5
    )
    return _vision("ResNetForImageClassification", config, size=64)


def regnet() -> Family:
    config = hf.RegNetConfig(
        embedding_size=8,
        hidden_sizes=[12, 18, 24, 30],
        depths=[1, 2, 1, 1],
        groups_width=6,
        layer_type="y",
        num_labels=5,
    )
    return _vision("RegNetForImageClassification", config, size=64)


def segformer() -> Family:
    config = hf.SegformerConfig(
        depths=[1, 1, 1, 1],
        hidden_sizes=[8, 12, 18, 24],
        num_attention_heads=[1, 2, 3, 4],
        sr_ratios=[4, 2, 2, 1],
        mlp_ratios=[2, 2, 2, 2],
        decoder_hidden_size=14,
        num_labels=5,
    )
    return _vision("SegformerForSemanticSegmentation", config, size=64)


def detr() -> Family:
    backbone = hf.ResNetConfig(
        embedding_size=8,
        hidden_sizes=[16, 24, 32, 40],
        depths=[1, 1, 1, 1],
        out_features=["stage4"],
    )
    config = hf.DetrConfig(
        use_timm_backbone=False,
        use_pretrained_backbone=False,
        backbone=None,
        backbone_config=backbone,
        d_model=24,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=3,
        decoder_attention_heads=3,
        encoder_ffn_dim=20,
        decoder_ffn_dim=20,
        num_queries=6,
        num_labels=5,
    )
    config._attn_implementation = "eager"
    model = hf.DetrForObjectDetection(config)
    return Wrapped(model, "logits", "pixel_values", "pixel_mask"), (
        torch.randn(1, 3, 64, 64),
        torch.ones(1, 64, 64, dtype=torch.long),
    )
