"""Deliveries are checked, remembered and queued; jobs survive, and are tried again."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest

from lady_onnx.cli.main import main
from lady_onnx.errors import LadyError, UsageError
from lady_onnx.graph import formats
from lady_onnx.graph.formats import find_model
from lady_onnx.graph.loading import load_graph
from lady_onnx.mlflow import gate, queue
from lady_onnx.mlflow.gate import PASSES, TAG, _write
from lady_onnx.mlflow.queue import JobQueue
from lady_onnx.mlflow.serving import explain_difference, read_serving
from lady_onnx.mlflow.webhook import Receiver, Worker, listen

from ..helpers.networks import perceptron

SECRET = "a secret"
CREATED = {
    "entity": "model_version",
    "action": "created",
    "data": {"name": "clf", "version": "3", "source": "x"},
}


def sign(body: bytes, name: str = "d-1", age_s: float = 0, secret: str = SECRET) -> dict[str, str]:
    sent = str(int(time.time() - age_s))
    signed = f"{name}.{sent}.".encode() + body
    digest = hmac.new(secret.encode(), signed, hashlib.sha256).digest()
    signature = f"v1,{base64.b64encode(digest).decode()}"
    return {
        "x-mlflow-delivery-id": name,
        "x-mlflow-timestamp": sent,
        "x-mlflow-signature": signature,
    }


def encode(said: object) -> bytes:
    return json.dumps(said).encode()


def test_the_signature_is_that_of_mlflow() -> None:
    from mlflow.webhooks.delivery import _generate_hmac_signature

    headers = sign(b"{}", "d")
    sent = headers["x-mlflow-timestamp"]
    assert headers["x-mlflow-signature"] == _generate_hmac_signature(SECRET, "d", sent, "{}")


def test_a_delivery_is_queued_once(tmp_path: Path) -> None:
    jobs = JobQueue(tmp_path)
    receiver = Receiver(SECRET, jobs)
    body = encode(CREATED)
    headers = sign(body)
    assert receiver.receive(headers, body).status == 202
    assert receiver.receive(headers, body).status == 409
    # also once it is done, and by another process
    (job,) = jobs.list_due()
    assert job.data == {"name": "clf", "version": "3"}
    jobs.finish(job)
    assert Receiver(SECRET, JobQueue(tmp_path)).receive(headers, body).status == 409
    assert not list(jobs.list_due())


FORGERIES = {
    "another body": lambda h, b: (h, b.replace(b"3", b"4")),
    "another secret": lambda h, b: (sign(b, secret="another"), b),
    "another name": lambda h, b: ({**h, "x-mlflow-delivery-id": "d-2"}, b),
    "another time": lambda h, b: ({**h, "x-mlflow-timestamp": "1"}, b),
    "no signature": lambda h, b: ({k: v for k, v in h.items() if "signature" not in k}, b),
    "an old delivery": lambda h, b: (sign(b, age_s=1000), b),
    "one of tomorrow": lambda h, b: (sign(b, age_s=-1000), b),
    "no headers": lambda h, b: ({}, b),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_what_is_forged_is_refused(forgery: str, tmp_path: Path) -> None:
    jobs = JobQueue(tmp_path)
    body = encode(CREATED)
    headers, body = FORGERIES[forgery](sign(body), body)
    assert Receiver(SECRET, jobs).receive(headers, body).status == 401
    assert not list(jobs.list_due())


@pytest.mark.parametrize(
    "said",
    [
        {"entity": "model_version_tag", "action": "set", "data": {"name": "a", "version": "1"}},
        {"entity": "registered_model", "action": "created", "data": {"name": "a"}},
        {"entity": "model_version", "action": "created", "data": {}},
        [],
        "text",
    ],
)
def test_other_events_are_taken_and_left(said: object, tmp_path: Path) -> None:
    jobs = JobQueue(tmp_path)
    body = encode(said)
    assert Receiver(SECRET, jobs).receive(sign(body), body).status == 200
    assert not list(jobs.list_due())


def test_names_that_are_paths_are_refused(tmp_path: Path) -> None:
    body = encode(CREATED)
    answer = Receiver(SECRET, JobQueue(tmp_path)).receive(sign(body, "../../x"), body)
    assert answer.status == 400


def test_a_secret_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(LadyError, match="secret is empty"):
        Receiver("", JobQueue(tmp_path))


def test_jobs_are_tried_again_and_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "FIRST_DELAY_S", 0.0)
    jobs = JobQueue(tmp_path)
    jobs.put("a", {"name": "clf", "version": "3"})
    log = tmp_path / "log"
    code = (
        f"import sys; open({str(log)!r}, 'a').write(' '.join(sys.argv[1:]) + chr(10)); sys.exit(2)"
    )
    worker = Worker(jobs, [sys.executable, "-c", code])
    for _ in range(queue.MAX_ATTEMPTS + 2):
        worker.run_all()
    assert log.read_text().splitlines() == ["--json -- clf 3"] * queue.MAX_ATTEMPTS
    failed = json.loads((tmp_path / "failed" / "a.json").read_text())
    assert failed["error"] == "exit code 2"
    assert jobs.has("a")


def test_a_job_that_waits_is_not_tried_before_its_time(tmp_path: Path) -> None:
    jobs = JobQueue(tmp_path)
    jobs.put("a", {"name": "clf", "version": "3"})
    (job,) = jobs.list_due()
    jobs.fail(job, "down")
    assert not list(jobs.list_due())
    assert jobs.has("a")


def test_what_was_done_long_ago_is_forgotten(tmp_path: Path) -> None:
    jobs = JobQueue(tmp_path)
    jobs.put("a", {})
    (job,) = jobs.list_due()
    jobs.finish(job)
    jobs.forget(100)
    assert jobs.has("a")
    jobs.forget(-1)
    assert not jobs.has("a")


def test_odd_files_in_the_queue_are_left_alone(tmp_path: Path) -> None:
    jobs = JobQueue(tmp_path)
    (tmp_path / "waiting" / "odd.json").write_text("no job")
    jobs.put("a", {"name": "clf", "version": "3"})
    assert [j.name for j in jobs.list_due()] == ["a"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--secret-file", "{t}/none"], "cannot be read"),
        (["--secret-file", "{t}/secret", "--policy", "{t}/none.toml"], "no such file"),
        (["--secret-file", "{t}/secret", "--port", "70000"], "below 65536"),
        (["--secret-file", "{t}/empty"], "secret is empty"),
        (["--secret-file", "{t}/secret", "--port", "{port}"], "cannot listen there"),
        (["--secret-file", "{t}/secret", "--host", "no.such.host"], "cannot listen there"),
    ],
)
def test_bad_calls(
    args: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    (tmp_path / "secret").write_text("s\n")
    (tmp_path / "empty").write_text("\n")
    with listen("127.0.0.1", 0) as taken:
        given = [a.format(t=tmp_path, port=taken.getsockname()[1]) for a in args]
        own = ["registry", "serve-webhook", "--queue", str(tmp_path / "q"), "--reference", "x"]
        assert main([*own, *given]) == 2
    out, error = capsys.readouterr()
    assert message in error
    assert error.count("\n") == 1
    assert not out


def test_the_receiver_needs_a_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import mlflow

    monkeypatch.setattr(mlflow, "is_tracking_uri_set", lambda: False)
    (tmp_path / "secret").write_text("s\n")
    args = ["--queue", str(tmp_path / "q"), "--secret-file", str(tmp_path / "secret")]
    assert main(["registry", "serve-webhook", "--reference", "x", *args]) == 2
    assert "set MLFLOW_TRACKING_URI" in capsys.readouterr().err


def test_a_crash_is_no_answer_and_ends_no_other_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue, "FIRST_DELAY_S", 0.0)
    jobs = JobQueue(tmp_path)
    jobs.put("crash", {"name": "crash", "version": "1"})
    jobs.put("odd", {"name": "nul\0x", "version": "1"})
    jobs.put("good", {"name": "good", "version": "1"})
    code = "import sys; 'crash' in sys.argv and 1 / 0; print('{\"passes\": false}'); sys.exit(1)"
    worker = Worker(jobs, [sys.executable, "-c", code])
    for _ in range(queue.MAX_ATTEMPTS):
        worker.run_all()
    states = {p.stem: p.parent.name for p in tmp_path.rglob("*.json")}
    assert states == {"crash": "failed", "odd": "failed", "good": "done"}
    assert "division" in json.loads((tmp_path / "failed" / "crash.json").read_text())["error"]


def test_odd_names_of_models_are_refused(tmp_path: Path) -> None:
    body = encode({**CREATED, "data": {"name": "nul\0x", "version": "1"}})
    assert Receiver(SECRET, JobQueue(tmp_path)).receive(sign(body), body).status == 400


@pytest.mark.parametrize(
    "address", ["models:/a?b/1", "models:/a#b/1", "models:/a%62/1", "runs:/\n"]
)
def test_addresses_that_could_be_read_in_two_ways(address: str) -> None:
    with pytest.raises(LadyError, match="does not take literally"):
        load_graph(address)


def test_files_go_by_the_address_that_they_were_fetched_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "fetched"
    folder.mkdir()
    monkeypatch.setitem(formats._fetched, folder, "models:/clf/3")
    (folder / "odd.onnx").write_text("no model")
    with pytest.raises(LadyError, match=r"^models:/clf/3/odd.onnx: not an ONNX file"):
        load_graph(folder / "odd.onnx")
    onnx.save(perceptron(), folder / "m.onnx")
    assert load_graph(folder / "m.onnx").name == "models:/clf/3/m.onnx"


@pytest.mark.parametrize("reference", ["models:/{name}@verified", "models:/clf@verified"])
def test_no_version_becomes_the_reference_by_passing(reference: str) -> None:
    with pytest.raises(UsageError, match="the reference goes by it"):
        gate("clf", 1, reference=reference, tracking_uri="http://127.0.0.1:1")


@pytest.mark.parametrize("sent", ["\u00b2", "9" * 5000, "-1", ""])
def test_odd_times_and_bodies_are_answered(sent: str, tmp_path: Path) -> None:
    receiver, body = Receiver(SECRET, JobQueue(tmp_path)), json.dumps(CREATED).encode()
    headers = sign(body)
    name = next(key for key in headers if "delivery" in key)
    signed = b".".join([headers[name].encode(), sent.encode(), body])
    digest = base64.b64encode(hmac.new(SECRET.encode(), signed, hashlib.sha256).digest())
    headers["x-mlflow-signature"] = f"v1,{digest.decode()}"
    headers["x-mlflow-timestamp"] = sent
    assert receiver.receive(headers, body).status == 401
    deep = b"[" * 100_000
    assert receiver.receive(sign(deep), deep).status == 200


def test_what_mlflow_serves_is_what_is_checked(tmp_path: Path) -> None:
    import mlflow

    onnx.save(perceptron((5, 8, 3), seed=1), tmp_path / "model.onnx")
    served: dict[str, dict[str, str]] = {
        "onnx": {"data": "model.onnx"},
        "python_function": {"loader_module": "mlflow.onnx", "data": "model.onnx"},
    }

    def find(**flavors: dict[str, str]) -> Path:
        mlflow.models.Model(flavors={**served, **flavors}).save(tmp_path / "MLmodel")
        return find_model("models:/a/1", tmp_path)

    assert find() == tmp_path / "model.onnx"
    for other in (
        {"onnx": {"data": "model.bin"}},
        {"python_function": {"loader_module": "evil", "data": "model.onnx"}},
        {"python_function": {"loader_module": "mlflow.onnx", "data": "model.bin"}},
        {"sklearn": {"pickled_model": "model.pkl"}},
        {"onnx": {"data": "model.onnx", "code": "code"}},
        {"python_function": {"loader_module": "mlflow.onnx", "data": "model.onnx", "code": "c"}},
    ):
        with pytest.raises(LadyError, match=r"something else|cannot be read"):
            find(**other)
    (tmp_path / "MLmodel").write_text("- no\n- model")
    with pytest.raises(LadyError, match="cannot be read"):
        find_model("models:/a/1", tmp_path)


def test_what_mlflow_does_besides_is_read_from_its_file(tmp_path: Path) -> None:
    import mlflow
    from mlflow.types import ColSpec, Schema, TensorSpec

    def read(names: list[str] | None = None, count: int = 1, **settings: object) -> dict[str, Any]:
        columns = [ColSpec("float", name) for name in names or []]
        spec = Schema(columns or [TensorSpec(np.dtype("f4"), (-1, 3))])
        flavors = {
            "onnx": {"data": "model.onnx", "providers": ["CPUExecutionProvider"], **settings},
            "python_function": {"loader_module": "mlflow.onnx", "data": "model.onnx"},
        }
        signature = mlflow.models.ModelSignature(inputs=spec)
        mlflow.models.Model(flavors=flavors, signature=signature).save(tmp_path / "MLmodel")
        return read_serving(tmp_path, count)

    plain = read()
    assert plain == read(onnx_session_options=None) == {}
    assert read(["a"]) == {}
    assert read(["a", "b"], 2) == {}
    ours, theirs = read(["a", "b", "c"]), read(["c", "b", "a"])
    assert explain_difference(ours, dict(ours)) is None
    for reference, suspect in ((ours, theirs), (plain, theirs), (ours, plain)):
        said = explain_difference(reference, suspect)
        assert said is not None
        assert "columns" in said
    said = explain_difference(plain, read(onnx_session_options={"execution_mode": "parallel"}))
    assert said is not None
    assert "onnx_session_options" in said
    assert read_serving(tmp_path / "none", 1) == {}


class Store:
    """One version in a registry, and what could be read of it after every call."""

    def __init__(self, aliases: list[str], tags: dict[str, str]):
        self.aliases, self.tags = aliases, tags
        self.seen: list[tuple[bool, dict[str, str]]] = []

    def get_model_version(self, *_: str) -> SimpleNamespace:
        return SimpleNamespace(aliases=list(self.aliases), tags=dict(self.tags))

    def set_registered_model_alias(self, name: str, alias: str, version: str) -> None:
        self.aliases.append(alias)
        self._note()

    def delete_registered_model_alias(self, name: str, alias: str) -> None:
        self.aliases.remove(alias)
        self._note()

    def set_model_version_tag(self, name: str, version: str, key: str, value: str) -> None:
        self.tags[key] = value
        self._note()

    def delete_model_version_tag(self, name: str, version: str, key: str) -> None:
        del self.tags[key]
        self._note()

    def _note(self) -> None:
        self.seen.append(("verified" in self.aliases, dict(self.tags)))


@pytest.mark.parametrize("passed", [True, False])
@pytest.mark.parametrize("passes", [True, False])
def test_an_answer_says_yes_last_and_takes_a_yes_back_first(passes: bool, passed: bool) -> None:
    before = {PASSES: str(passed).lower(), f"{TAG}old": "x", "own": "kept"}
    after = {f"{TAG}a": "1", PASSES: str(passes).lower(), f"{TAG}z": "2"}
    store = Store(["verified"] if passed else [], dict(before))
    _write(store, "clf", "3", after, passes, "verified")
    assert store.tags == {"own": "kept", **after}
    assert store.aliases == ["verified"] * passes
    others = {k: v for k, v in after.items() if k != PASSES}
    for has_alias, tags in store.seen:
        is_told = tags.get(PASSES) == "true"
        is_written = others.items() <= tags.items() and f"{TAG}old" not in tags
        if passes:
            assert is_written or not is_told
            assert is_written or has_alias == passed
            assert has_alias or not is_told
        else:
            assert not has_alias
            assert not is_told or not others.items() & tags.items()
