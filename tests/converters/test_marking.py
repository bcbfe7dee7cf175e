"""Marks that are trained into a model: all bits are written, and the task is still done."""

from __future__ import annotations

from importlib import resources

import numpy as np
import pytest
from lady_onnx.converters.marking import TRAINED_SCHEMES, train_mark

import lady_onnx as lady
from lady_onnx.errors import LadyError
from lady_onnx.runtime.comparing.data import read_data
from lady_onnx.watermark.schemes.positions import Positions, draw_positions
from lady_onnx.watermark.secrets.keys import Key

KEY, PAYLOAD = Key(bytes(32)), b"ACME"
DIGITS = resources.files("lady_onnx.data")
MODEL = str(DIGITS / "digits.onnx")


@pytest.fixture(scope="module")
def data() -> dict[str, np.ndarray]:
    return read_data(str(DIGITS / "digits.npz"))


@pytest.mark.parametrize("scheme", TRAINED_SCHEMES)
def test_a_trained_mark_is_read_through_a_shuffle(scheme: str, data: dict[str, np.ndarray]) -> None:
    marked = train_mark(MODEL, KEY, PAYLOAD, data, 8, scheme=scheme, rate=0.01)
    found = lady.extract_mark(marked.graph, KEY, marked.mark)
    assert (found.payload, found.as_it_stands.wrong) == (PAYLOAD, 0)
    shuffled = lady.permute(marked.graph, 1).graph
    assert lady.extract_mark(shuffled, KEY, marked.mark).payload is None
    found = lady.extract_mark(shuffled, KEY, marked.mark, reference=marked.graph)
    assert (found.payload, found.put_back and found.put_back.wrong) == (PAYLOAD, 0)
    metrics = lady.verify(MODEL, marked.graph, data=data, metric="accuracy").metrics
    assert metrics is not None
    assert metrics[1] > metrics[0] - 0.03


@pytest.mark.parametrize("scheme", TRAINED_SCHEMES[1:])
def test_marked_weights_stay_as_they_were_written(scheme: str, data: dict[str, np.ndarray]) -> None:
    """All others learn."""
    written = lady.embed_mark(MODEL, KEY, PAYLOAD, scheme=scheme)
    trained = train_mark(MODEL, KEY, PAYLOAD, data, 0.5, scheme=scheme)
    assert trained.mark == written.mark
    keys = trained.mark.derive_key(KEY).derive_layer_key
    for name, held in draw_positions(trained.mark.layers, keys, trained.bits).items():
        old, new = (m.graph.array(name).ravel() for m in (written, trained))
        is_marked = np.isin(np.arange(old.size), held.places)
        assert np.array_equal(old[is_marked], new[is_marked])
        assert (old != new)[~is_marked].mean() > 0.5


def test_replicas_make_attacks_on_the_mark_costly(
    data: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Noise on the marked weights alone costs more of the task than without replicas."""
    accuracies = []
    for weight in (0.0, 0.1):
        monkeypatch.setattr("lady_onnx.converters.marking.REPLICA_WEIGHT", weight)
        marked = train_mark(MODEL, KEY, PAYLOAD, data, 8, scheme="watermas", rate=0.01)
        keys = marked.mark.derive_key(KEY).derive_layer_key
        held = draw_positions(marked.mark.layers, keys, marked.bits)
        accuracies.append(np.mean([measure_attacked(marked, held, data, k) for k in range(5)]))
    assert accuracies[1] < accuracies[0] - 0.01


def measure_attacked(
    marked: lady.Marked, held: dict[str, Positions], data: dict[str, np.ndarray], seed: int
) -> float:
    """The accuracy once the marked weights are noised, by one and a half of their deviations."""
    graph, rng = marked.graph.copy(), np.random.default_rng(seed)
    for name, positions in held.items():
        array = np.array(graph.array(name))
        step = 1.5 * array.std() * rng.standard_normal(len(positions.places))
        array.reshape(-1)[positions.places] += step.astype(np.float32)
        graph.replace(name, array)
    metrics = lady.verify(MODEL, graph, data=data, metric="accuracy").metrics
    assert metrics is not None
    return metrics[1]


def test_what_cannot_be_trained_is_told(data: dict[str, np.ndarray]) -> None:
    with pytest.raises(LadyError, match="scheme 'spread' is written without training"):
        train_mark(MODEL, KEY, PAYLOAD, data, 1, scheme="spread")
    with pytest.raises(LadyError, match="bits are not written; write the mark"):
        train_mark(MODEL, KEY, PAYLOAD, data, 0, scheme="uchida")
    with pytest.raises(LadyError, match="has room for"):
        train_mark(MODEL, KEY, bytes(40), data, 1, scheme="uchida")
