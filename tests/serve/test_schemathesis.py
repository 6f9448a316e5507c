"""Requests that schemathesis makes up from the server's own description: `make test-llamacpp`, which installs it."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from tests.serve.stand_in import MODELS_SERVED, stand_in
from tinyllama.serve.guard import Limits

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow
uvicorn = pytest.importorskip("uvicorn", reason="make test-llamacpp installs it")
schemathesis = pytest.importorskip("schemathesis", reason="make test-llamacpp installs it")

IN_WORDS = {"context_length_exceeded", "invalid_value", "unsupported_value"}
"""Codes of refusals that the description states in words: a schema counts no tokens."""


@pytest.fixture(scope="module", params=[None, "secret"])
def server(request: pytest.FixtureRequest) -> Iterator[tuple[str, str | None]]:
    """Address and key of a server over the stand-in engine."""
    limits = Limits(max_tokens=10, requests=16, body=1_000_000, api_key=request.param)
    running = uvicorn.Server(uvicorn.Config(stand_in(limits, MODELS_SERVED[:3]), port=0, log_level="error"))
    thread = threading.Thread(target=running.run)
    thread.start()
    while not running.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{running.servers[0].sockets[0].getsockname()[1]}", request.param
    running.should_exit = True
    thread.join()


def test_schemathesis_finds_nothing_but_documented_refusals(server: tuple[str, str | None], tmp_path: Path) -> None:
    address, key = server
    command = [
        sys.executable, "-m", "schemathesis.cli", "run", f"{address}/openapi.json", "--seed", "1", "--no-color",
        "--max-examples", "50", "--request-timeout", "120", "--exclude-checks", "positive_data_acceptance",
        *(["--header", f"Authorization: Bearer {key}"] if key else []),
    ]  # fmt: skip
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=500)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]


def test_what_the_schemas_allow_is_answered_or_refused_for_a_reason_in_words(server: tuple[str, str | None]) -> None:
    address, key = server
    schema = schemathesis.openapi.from_url(f"{address}/openapi.json")
    for operation in (found.ok() for found in schema.get_all_operations()):

        @settings(
            max_examples=100, deadline=None, derandomize=True, database=None, phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @given(case=operation.as_strategy())
        def check(case: Any) -> None:  # noqa: ANN401  # schemathesis
            response = case.call(headers={"Authorization": f"Bearer {key}"} if key else {})
            if response.status_code == 400:
                assert response.json()["error"]["code"] in IN_WORDS
            else:
                assert response.status_code == 200, response.text

        check()
