"""What all tests share: the folder of exported models."""

from __future__ import annotations

import pytest

from .helpers import export_cache


@pytest.fixture(scope="session", autouse=True)
def _exports(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> None:
    """Exports lie in the temporary folder of this run, which pytest itself removes in time."""
    base = tmp_path_factory.getbasetemp()
    is_worker = hasattr(request.config, "workerinput")
    # each worker of pytest-xdist has a folder of its own inside the one of the run
    export_cache.set_folder((base.parent if is_worker else base) / "exports")
