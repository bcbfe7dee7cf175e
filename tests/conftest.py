"""What all tests share: the folder of exported models."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lady_onnx import rules
from lady_onnx.rules.plain_forms import PLAIN_FORMS

from .helpers import export_cache


@pytest.fixture(scope="session", autouse=True)
def _exports(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> None:
    """Exports lie in the temporary folder of this run, which pytest itself removes in time."""
    base = tmp_path_factory.getbasetemp()
    is_worker = hasattr(request.config, "workerinput")
    # each worker of pytest-xdist has a folder of its own inside the one of the run
    export_cache.set_folder((base.parent if is_worker else base) / "exports")


@pytest.fixture
def registry() -> Iterator[None]:
    """Takes back what a test registers."""
    saved, forms = dict(rules.REGISTRY), dict(PLAIN_FORMS)
    yield
    for registered, before in ((rules.REGISTRY, saved), (PLAIN_FORMS, forms)):
        registered.clear()
        registered.update(before)  # type: ignore[arg-type]
