"""A receiver of MLflow's webhooks: every new version of a model goes through the gate.

A delivery is checked, written to a queue on disk, and acknowledged. A worker takes the jobs from
the queue one by one, each in a process of its own.

Source: mlflow.webhooks.delivery, which follows https://www.standardwebhooks.com.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import importlib
import json
import logging
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import LadyError, UsageError, to_one_line
from .queue import NAME, JobQueue

MAX_BODY_BYTES = 1 << 20
SECONDS = re.compile(r"[0-9]{1,12}")
"""A time, as MLflow sends it."""
MAX_AGE_S = 300
"""A delivery whose time is further off is refused: it may be an old one, played again."""
MEMORY_S = 7 * 24 * 3600
"""Deliveries are remembered longer than an old one would be taken."""
POLL_S = 0.5
SIGNATURE, TIMESTAMP, DELIVERY = (
    "x-mlflow-signature",
    "x-mlflow-timestamp",
    "x-mlflow-delivery-id",
)
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Answer:
    """What a delivery is answered.

    Attributes:
        status: the status of HTTP.
        text: what is said.
    """

    status: int
    text: str


class Receiver:
    """Checks deliveries and queues them.

    Args:
        secret: the secret of the webhook.
        queue: where jobs go.
    """

    def __init__(self, secret: str, queue: JobQueue):
        if not secret:
            raise UsageError("the secret is empty; give the one that the webhook was made with")
        self._secret, self._queue = secret.encode(), queue
        self._lock = threading.Lock()

    def receive(self, headers: Mapping[str, str], body: bytes) -> Answer:
        """Take a delivery, or refuse it.

        Args:
            headers: by name in lower case.
            body: what was sent.
        """
        name, sent = headers.get(DELIVERY, ""), headers.get(TIMESTAMP, "")
        signed = b".".join([name.encode(), sent.encode(), body])
        digest = base64.b64encode(hmac.new(self._secret, signed, hashlib.sha256).digest())
        given = headers.get(SIGNATURE, "").encode()
        if not hmac.compare_digest(given, b"v1," + digest):
            return Answer(401, "the signature is wrong")
        # from here on it is known who says so
        if not SECONDS.fullmatch(sent) or abs(time.time() - int(sent)) > MAX_AGE_S:
            return Answer(401, "the delivery is too old")
        if not NAME.fullmatch(name):
            return Answer(400, "the name of the delivery is odd")
        try:
            said = json.loads(body)
            event = said["entity"], said["action"]
            job = {key: str(said["data"][key]) for key in ("name", "version")}
            if not all(text.isprintable() for text in job.values()):
                return Answer(400, "the name of the model is odd")
        except (ValueError, TypeError, KeyError, RecursionError):
            event, job = ("", ""), {}
        if event != ("model_version", "created"):
            return Answer(200, "nothing to do")
        with self._lock:
            if self._queue.has(name):
                return Answer(409, "was delivered before")
            self._queue.put(name, job)
        return Answer(202, "queued")

    async def __call__(
        self,
        scope: Mapping[str, Any],
        receive: Callable[[], Awaitable[Mapping[str, Any]]],
        send: Callable[[Mapping[str, Any]], Awaitable[None]],
    ) -> None:
        """Serve one request, as ASGI has it."""
        if scope["type"] != "http":
            return
        answer = Answer(405, "send a POST") if scope["method"] != "POST" else None
        body = b""
        while answer is None:
            part = await receive()
            body += part.get("body", b"")
            if len(body) > MAX_BODY_BYTES:
                answer = Answer(413, "too long")
            elif not part.get("more_body"):
                headers = {k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"]}
                answer = self.receive(headers, body)
        length = str(len(answer.text)).encode()
        kind = [(b"content-type", b"text/plain"), (b"content-length", length)]
        await send({"type": "http.response.start", "status": answer.status, "headers": kind})
        await send({"type": "http.response.body", "body": answer.text.encode()})


class Worker:
    """Takes jobs from a queue and runs a command for each.

    Args:
        queue: the queue.
        command: the command; the name and the version of a model are put behind it.
        timeout: the seconds that one job may take, None for any.
    """

    def __init__(self, queue: JobQueue, command: Sequence[str], timeout: float | None = None):
        self._queue, self._command, self._timeout = queue, list(command), timeout
        self._stopped = threading.Event()

    def run_all(self) -> None:
        """Run the jobs that are due."""
        for job in self._queue.list_due():
            if self._stopped.is_set():
                return
            try:
                error = self._run(job.data["name"], job.data["version"])
            except Exception as fault:  # noqa: BLE001
                # one job must not end the work on all others
                error = to_one_line(fault)
            if error is None:
                self._queue.finish(job)
            else:
                logger.warning("%s version %s: %s", job.data["name"], job.data["version"], error)
                self._queue.fail(job, error)

    def run(self) -> None:
        """Run jobs until somebody stops it."""
        while not self._stopped.wait(POLL_S):
            try:
                self.run_all()
                self._queue.forget(MEMORY_S)
            except OSError as error:
                # a full disk may be emptied; the jobs wait
                logger.error("the queue: %s", error)

    def stop(self) -> None:
        """Stop after the job that runs."""
        self._stopped.set()

    def _run(self, name: str, version: str) -> str | None:
        """Run a job; return why it failed, None where it was done."""
        command = [*self._command, "--json", "--", name, version]
        done = subprocess.run(command, capture_output=True, text=True, timeout=self._timeout)
        try:
            # a process that crashed has an exit code too, and no answer
            if "passes" in json.loads(done.stdout):
                return None
        except (ValueError, TypeError):
            pass
        lines = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()
        return lines[-1]


def read_secret(path: Path) -> str:
    """Read the secret of a webhook: the first line of a file.

    Raises:
        LadyError: it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8").split("\n")[0].strip()
    except (OSError, ValueError) as error:
        raise LadyError(f"{path}: cannot be read ({error}); give a file with the secret") from None


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens.

    Raises:
        LadyError: another program listens there, or the host is not one of this machine.
    """
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family)
    except OSError as error:
        # the name of a host that is not known is an error of this kind too
        what = f"cannot listen there ({error.strerror}); give another --host or --port"
        raise LadyError(f"{host}:{port}: {what}") from None


def serve(receiver: Receiver, worker: Worker, where: socket.socket) -> None:
    """Serve deliveries until the process is told to end.

    Args:
        receiver: takes the deliveries.
        worker: runs the jobs.
        where: the socket that listens.
    """
    import uvicorn

    thread = threading.Thread(target=worker.run, name="gate", daemon=True)
    thread.start()
    config = uvicorn.Config(receiver, log_level="warning", lifespan="off")
    try:
        uvicorn.Server(config).run([where])
    finally:
        worker.stop()


def check_installation() -> None:
    """Check that the receiver can work.

    Raises:
        UsageError: MLflow or uvicorn is not installed, or no server is known.
    """
    try:
        mlflow = importlib.import_module("mlflow")
        importlib.import_module("uvicorn")
    except ImportError:
        what = "the receiver needs the extra `mlflow`: pip install 'lady-onnx[mlflow]'"
        raise UsageError(what) from None
    if not mlflow.is_tracking_uri_set():
        raise UsageError("no server of MLflow is known; set MLFLOW_TRACKING_URI")


def list_command(arguments: Sequence[str]) -> list[str]:
    """Return the command of a job: this program, with some arguments."""
    return [sys.executable, "-m", "lady_onnx", "registry", "gate", *arguments]
