"""Small models as other tools write them, each kind in an environment that has its tool.

    PYTHON benchmarks/exporters.py KIND FOLDER [NAME ...]

Writes FOLDER/KIND-NAME.onnx for every model of a kind, with random weights, and says which ones
the tool does not write. A table in `README.md` says what each kind needs installed.
`sweep.py --models FOLDER` reads the files.
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx

sys.path.insert(0, str(Path(__file__).parent.parent))

Write = Callable[[Path], None]
"""Writes one model to a path."""
Models = Iterator[tuple[str, Write]]
FAMILIES = (
    *("vit", "swin", "bert", "gpt2", "llama", "qwen3", "gpt_neox", "bloom", "t5"),
    *("convnext", "mobilenet_v2", "resnet", "regnet", "segformer", "detr"),
)
FUSED = {"bert": "bert", "vit": "vit", "gpt2": "gpt2", "t5": "t5"}
"""By family the type of model for which onnxruntime's optimiser fuses operators."""
QUANTISED = ("llama", "qwen3", "phi3", "gpt-oss")
"""Of genai's models, those that are read with weights of four bits as well."""


def _export_family(name: str, is_dynamo: bool) -> onnx.ModelProto:
    import torch

    from tests.helpers import families
    from tests.helpers.architectures import export, randomise

    torch.manual_seed(0)
    module, inputs = getattr(families, name)()
    return export(randomise(module), *inputs, dynamo=is_dynamo)


def list_torch(is_dynamo: bool) -> Models:
    for name in FAMILIES:
        yield name, lambda path, name=name: onnx.save(_export_family(name, is_dynamo), path)


def list_optimised() -> Models:
    """What onnxruntime's optimiser of transformers makes of traced models."""
    from onnxruntime.transformers.optimizer import optimize_model

    for name, kind in FUSED.items():

        def write(path: Path, name: str = name, kind: str = kind) -> None:
            traced = _export_family(name, is_dynamo=False)
            sizes = {"num_heads": 3, "hidden_size": 24}
            optimize_model(traced, kind, **sizes, opt_level=0).save_model_to_file(str(path))

        yield name, write


def list_genai() -> Models:
    """What the tests keep of onnxruntime-genai's builder; `genai_models.py` runs it."""
    from tests.helpers import genai

    for name in genai.list_models():
        model, precision = name.rsplit("-", 1)
        if precision == "fp32" or (precision == "int4" and model in QUANTISED):

            def write(path: Path, name: str = name) -> None:
                # no CPU runs norms of queries and keys inside of attention
                onnx.save(genai.spell_out_norms(genai.make_model(name)), path)

            yield name, write


def list_shipped() -> Models:
    """Trained models inside packages, which no one tool wrote."""
    from tests.helpers import real

    for name in (*real.MODELS, *real.MORE):
        yield name, lambda path, name=name: shutil.copy(real.path(name), path)


def _make_optimum() -> dict[str, tuple[Any, str]]:
    """By name a random model of transformers, and its task for optimum."""
    import transformers as t

    text = {"vocab_size": 96, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    sizes = {"hidden_size": 48, "intermediate_size": 56, "num_hidden_layers": 2}
    sizes |= {"num_attention_heads": 4}
    llama = t.LlamaConfig(**text, **sizes, num_key_value_heads=2, max_position_embeddings=64)
    gpt = t.GPT2Config(vocab_size=96, n_positions=64, n_embd=48, n_layer=2, n_head=4)
    bert = t.BertConfig(vocab_size=96, **sizes, max_position_embeddings=64)
    vit = t.ViTConfig(**sizes, image_size=32, patch_size=8)
    t5 = t.T5Config(vocab_size=96, d_model=48, d_kv=12, d_ff=56, num_layers=2, num_heads=4)
    t5.decoder_start_token_id = 0
    sides = {
        f"{side}_{what}": n
        for side in ("encoder", "decoder")
        for what, n in (("layers", 2), ("attention_heads", 4), ("ffn_dim", 56))
    }
    lengths = {"max_target_positions": 64, "num_mel_bins": 8, "decoder_start_token_id": 1}
    whisper = t.WhisperConfig(**text, **sides, **lengths, d_model=48)
    cached = "-with-past"
    return {
        "llama": (t.LlamaForCausalLM(llama), "text-generation"),
        "llama-cache": (t.LlamaForCausalLM(llama), "text-generation" + cached),
        "gpt2": (t.GPT2LMHeadModel(gpt), "text-generation"),
        "gpt2-cache": (t.GPT2LMHeadModel(gpt), "text-generation" + cached),
        "bert": (t.BertForSequenceClassification(bert), "text-classification"),
        "vit": (t.ViTForImageClassification(vit), "image-classification"),
        "t5-cache": (t.T5ForConditionalGeneration(t5), "text2text-generation" + cached),
        "whisper-cache": (
            t.WhisperForConditionalGeneration(whisper),
            "automatic-speech-recognition" + cached,
        ),
    }


def list_optimum() -> Models:
    import torch
    import transformers as t
    from optimum.exporters.onnx import main_export
    from tokenizers import Tokenizer, models

    torch.manual_seed(0)
    words = models.WordLevel({f"t{k}": k for k in range(96)}, unk_token="t0")
    tokenizer = t.PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(words), unk_token="t0", bos_token="t1", pad_token="t0"
    )

    def write(path: Path, net: Any, task: str) -> None:
        for parameter in net.parameters():
            # no bias and no gain is the same in all units
            parameter.data += 0.15 * torch.randn_like(parameter)
        with tempfile.TemporaryDirectory() as source, tempfile.TemporaryDirectory() as target:
            net.save_pretrained(source)
            if "image" in task:
                t.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(source)
            else:
                tokenizer.save_pretrained(source)
            if "speech" in task:
                t.WhisperFeatureExtractor(feature_size=8).save_pretrained(source)
            main_export(source, target, task=task, device="cpu", do_validation=False)
            # an encoder and its decoders are several files
            found = sorted(Path(target).glob("*.onnx"))
            for one in found:
                more = "" if len(found) == 1 else "-" + one.stem.replace("_model", "")
                shutil.copy(one, path.with_stem(path.stem + more))

    for name, (net, task) in _make_optimum().items():
        yield name, partial(write, net=net, task=task)


def _make_keras() -> dict[str, tuple[Any, tuple[int, ...], str]]:
    """By name a Keras model, the shape of one input, and its element type."""
    from keras import Input, Model, Sequential, activations, applications, layers

    picture = (64, 64, 3)
    sizes = {"weights": None, "input_shape": picture, "classes": 7}
    tokens = Input((16,))
    h = layers.Embedding(50, 24)(tokens)
    for _ in range(2):
        h = layers.LayerNormalization()(h + layers.MultiHeadAttention(3, 8)(h, h))
        # tf2onnx leaves the exact form of GELU as Erfc, which is no operator of ONNX
        f = layers.Dense(40, activation=partial(activations.gelu, approximate=True))(h)
        h = layers.LayerNormalization()(h + layers.Dense(24)(f))
    convolutions = [
        *(Input((28, 28, 1)), layers.Conv2D(8, 3, activation="relu"), layers.BatchNormalization()),
        *(layers.MaxPool2D(), layers.Conv2D(12, 3), layers.PReLU(shared_axes=[1, 2])),
        *(layers.Flatten(), layers.Dense(20, activation="relu"), layers.Dense(10)),
    ]
    lstm = [Input((20, 6)), layers.Bidirectional(layers.LSTM(14)), layers.Dense(5)]
    gru = [Input((20, 6)), layers.GRU(10, return_sequences=True), layers.Dense(5)]
    return {
        "mobilenet_v2": (applications.MobileNetV2(**sizes, alpha=0.35), picture, "float32"),
        "mobilenet_v3": (applications.MobileNetV3Small(**sizes), picture, "float32"),
        "efficientnet_b0": (applications.EfficientNetB0(**sizes), picture, "float32"),
        "densenet121": (applications.DenseNet121(**sizes), picture, "float32"),
        "cnn": (Sequential(convolutions), (28, 28, 1), "float32"),
        "lstm": (Sequential(lstm), (20, 6), "float32"),
        "gru": (Sequential(gru), (20, 6), "float32"),
        "transformer": (Model(tokens, layers.Dense(4)(h)), (16,), "int32"),
    }


def _move_weights(model: Any) -> None:
    """Leave no bias and no gain the same in all units, and no variance negative."""
    rng = np.random.default_rng(0)
    vectors = (v + abs(rng.normal(0, 0.1, v.shape)) * (v.ndim < 3) for v in model.get_weights())
    model.set_weights(list(vectors))


def list_tf2onnx() -> Models:
    import tensorflow as tf
    import tf2onnx

    def write(path: Path, model: Any, shape: tuple[int, ...], kind: str) -> None:
        _move_weights(model)
        spec = [tf.TensorSpec([None, *shape], kind, name="x")]
        call = tf.function(lambda x: model(x, training=False), input_signature=spec)
        onnx.save(tf2onnx.convert.from_function(call, input_signature=spec, opset=17)[0], path)

    for name, (model, shape, kind) in _make_keras().items():
        yield name, partial(write, model=model, shape=shape, kind=kind)


def list_keras() -> Models:
    """Keras's own export."""

    def write(path: Path, model: Any, shape: tuple[int, ...], kind: str) -> None:
        _move_weights(model)
        model(np.zeros((1, *shape), kind))
        model.export(str(path), format="onnx", verbose=False)

    for name, (model, shape, kind) in _make_keras().items():
        if name in ("cnn", "lstm", "mobilenet_v3", "transformer"):
            yield name, partial(write, model=model, shape=shape, kind=kind)


def list_jax2onnx() -> Models:
    import jax
    import jax.numpy as jnp
    from flax import nnx
    from jax2onnx import to_onnx

    draw = nnx.Rngs(0)

    class Convolutions(nnx.Module):
        def __init__(self) -> None:
            self.a = nnx.Conv(3, 8, (3, 3), rngs=draw)
            self.norm = nnx.BatchNorm(8, use_running_average=True, rngs=draw)
            self.b = nnx.Conv(8, 12, (3, 3), strides=2, rngs=draw)
            self.c = nnx.Linear(12, 5, rngs=draw)

        def __call__(self, x: Any) -> Any:
            h = nnx.relu(self.b(nnx.relu(self.norm(self.a(x)))))
            return self.c(jnp.mean(h, axis=(1, 2)))

    class Block(nnx.Module):
        def __init__(self) -> None:
            self.words = nnx.Embed(40, 24, rngs=draw)
            self.heads = nnx.MultiHeadAttention(3, 24, decode=False, rngs=draw)
            self.norm = nnx.LayerNorm(24, rngs=draw)
            self.up, self.down = (nnx.Linear(24, 40, rngs=draw), nnx.Linear(40, 24, rngs=draw))
            self.out = nnx.Linear(24, 6, rngs=draw)

        def __call__(self, x: Any) -> Any:
            h = self.words(x)
            h = h + self.heads(self.norm(h))
            return self.out(h + self.down(nnx.gelu(self.up(h))))

    class Recurrent(nnx.Module):
        def __init__(self) -> None:
            self.gates, self.old = (nnx.Linear(n, 30, rngs=draw) for n in (6, 10))
            self.out = nnx.Linear(10, 4, rngs=draw)

        def __call__(self, x: Any) -> Any:
            def step(h: Any, now: Any) -> tuple[Any, Any]:
                (r, z, n), (p, q, m) = (jnp.split(a, 3, -1) for a in (now, self.old(h)))
                kept = nnx.sigmoid(z + q)
                h = kept * h + (1 - kept) * jnp.tanh(n + nnx.sigmoid(r + p) * m)
                return h, h

            start = jnp.zeros((x.shape[0], 10))
            return self.out(jax.lax.scan(step, start, jnp.swapaxes(self.gates(x), 0, 1))[1])

    layers = [nnx.Linear(5, 16, rngs=draw), nnx.LayerNorm(16, rngs=draw), nnx.gelu]
    layers += [nnx.Linear(16, 12, rngs=draw), nnx.relu, nnx.Linear(12, 3, rngs=draw)]
    tokens = jax.ShapeDtypeStruct((2, 10), "int32")
    found = {
        "mlp": (nnx.Sequential(*layers), ("B", 5)),
        "cnn": (Convolutions(), ("B", 16, 16, 3)),
        "transformer": (Block(), tokens),
        "gru": (Recurrent(), ("B", 12, 6)),
    }
    for name, (model, spec) in found.items():
        yield name, lambda path, m=model, s=spec: onnx.save(to_onnx(m, [s]), path)


def list_paddle2onnx() -> Models:
    import paddle
    from paddle import nn, vision
    from paddle.static import InputSpec

    class Recurrent(nn.Layer):
        def __init__(self, kind: Any) -> None:
            super().__init__()
            self.body, self.out = kind(6, 10, direction="bidirect"), nn.Linear(20, 3)

        def forward(self, x: Any) -> Any:
            return self.out(self.body(x)[0])

    def write(path: Path, model: Any, shape: list[int]) -> None:
        model.eval()
        spec = [InputSpec(shape, "float32", "x")]
        paddle.onnx.export(model, str(path.with_suffix("")), input_spec=spec, opset_version=17)

    layer = nn.TransformerEncoderLayer(24, 3, 40, dropout=0.0)
    picture = [-1, 3, 64, 64]
    found = {
        "resnet18": (vision.models.resnet18(num_classes=7), picture),
        "mobilenet_v2": (vision.models.mobilenet_v2(num_classes=7, scale=0.25), picture),
        "mobilenet_v3": (vision.models.mobilenet_v3_small(num_classes=7, scale=0.5), picture),
        "shufflenet_v2": (vision.models.shufflenet_v2_x0_25(num_classes=7), picture),
        "lstm": (Recurrent(nn.LSTM), [-1, 12, 6]),
        "gru": (Recurrent(nn.GRU), [-1, 12, 6]),
        "transformer": (nn.TransformerEncoder(layer, 2), [2, 10, 24]),
    }
    for name, (model, shape) in found.items():
        yield name, partial(write, model=model, shape=shape)


def list_skl2onnx() -> Models:
    from skl2onnx import to_onnx
    from sklearn import decomposition, linear_model, pipeline, preprocessing, svm
    from sklearn.datasets import load_digits
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    x, y = load_digits(return_X_y=True)
    x = x.astype(np.float32)

    def write(path: Path, model: Any) -> None:
        model.fit(x, y)
        options = {"zipmap": False} if hasattr(model, "predict_proba") else None
        path.write_bytes(to_onnx(model, x[:1], options=options).SerializeToString())

    scaler, chain = preprocessing.StandardScaler, pipeline.make_pipeline
    pca, logistic = decomposition.PCA(20), linear_model.LogisticRegression()
    found = {
        "mlp": MLPClassifier((40, 24), max_iter=60),
        "mlp_tanh": MLPRegressor(hidden_layer_sizes=(30, 20), activation="tanh", max_iter=60),
        "scaled_mlp": chain(scaler(), pca, MLPClassifier((32,), max_iter=60)),
        "normed_mlp": chain(preprocessing.Normalizer(), MLPClassifier((32,), max_iter=60)),
        "logistic": chain(scaler(), logistic),
        "svc": chain(scaler(), svm.SVC()),
    }
    for name, model in found.items():
        yield name, partial(write, model=model)


def list_onnxmltools() -> Models:
    import lightgbm
    import onnxmltools
    import xgboost
    from onnxmltools.convert.common.data_types import FloatTensorType
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    types = {"initial_types": [("x", FloatTensorType([None, 64]))]}

    def write(path: Path, model: Any, convert: Any) -> None:
        path.write_bytes(convert(model.fit(x, y), **types).SerializeToString())

    trees = lightgbm.LGBMClassifier(n_estimators=10, verbose=-1)
    lean = partial(onnxmltools.convert_lightgbm, zipmap=False)
    yield "lightgbm", partial(write, model=trees, convert=lean)
    trees = xgboost.XGBClassifier(n_estimators=5)
    yield "xgboost", partial(write, model=trees, convert=onnxmltools.convert_xgboost)


KINDS: dict[str, Callable[[], Models]] = {
    "tracing": partial(list_torch, is_dynamo=False),
    "dynamo": partial(list_torch, is_dynamo=True),
    **{"optimiser": list_optimised, "optimum": list_optimum, "genai": list_genai},
    **{"tf2onnx": list_tf2onnx, "keras": list_keras, "jax2onnx": list_jax2onnx},
    **{"paddle2onnx": list_paddle2onnx, "skl2onnx": list_skl2onnx},
    **{"onnxmltools": list_onnxmltools, "shipped": list_shipped},
}


def main(kind: str, target: str, *wanted: str) -> None:
    warnings.simplefilter("ignore")
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    folder = Path(target).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    for name, write in KINDS[kind]():
        if wanted and name not in wanted:
            continue
        try:
            write(folder / f"{kind}-{name}.onnx")
            print(kind, name, flush=True)
        except Exception:
            # tools raise anything: the other models are written all the same
            logging.exception("%s %s is not written", kind, name)


if __name__ == "__main__":
    main(*sys.argv[1:])
