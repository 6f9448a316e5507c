"""The description of the API: a valid document, which states what the server does."""

from __future__ import annotations

import pytest
from openapi_spec_validator import validate

from tests.serve.stand_in import LIMITS, ask
from tinyllama.serve.guard import DESCRIPTION, METHODS, Limits


def test_the_description_is_valid_openapi() -> None:
    validate(ask(DESCRIPTION, method="GET").json)


def test_it_has_every_path_and_method_that_is_served() -> None:
    paths = ask(DESCRIPTION, method="GET").json["paths"]
    found = {path: set(operations) for path, operations in paths.items() if "{" not in path}
    assert found == {path: {method.lower()} for path, method in METHODS.items()}


def test_it_states_the_models_and_the_limits() -> None:
    schemas = ask(DESCRIPTION, method="GET").json["components"]["schemas"]
    for name in ("CompletionRequest", "ChatRequest"):
        assert schemas[name]["properties"]["model"]["enum"] == ["base", "chat", "other", "failing"]
        assert {"type": "integer", "minimum": 0, "maximum": LIMITS.max_tokens} in schemas[name]["properties"][
            "max_tokens"
        ]["anyOf"]
        assert schemas[name]["additionalProperties"] is False


@pytest.mark.parametrize("key", [None, "secret"])
def test_it_asks_for_a_key_where_the_server_does(key: str | None) -> None:
    document = ask(DESCRIPTION, method="GET", limits=Limits(max_tokens=1, requests=1, body=1, api_key=key)).json
    secured = {
        path for path, operations in document["paths"].items() for entry in operations.values() if "security" in entry
    }
    assert secured == ({path for path in document["paths"] if path.startswith("/v1")} if key else set())
