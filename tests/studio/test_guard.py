"""The guard: pages of other sites, foreign names and requests without the token get nothing."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient

from tinyllama.studio.guard import Access, StudioGuard, access_of

if TYPE_CHECKING:
    import httpx2

GIVEN = "abc-123"
PRIVATE = "what the page may know"
LOCAL = access_of("127.0.0.1", GIVEN)
OPEN = Access(frozenset({"gpu01"}), numbers=True, token=GIVEN)


def ask(access: Access, address: str, path: str = "/api/families", **headers: str) -> httpx2.Response:
    client = TestClient(StudioGuard(PlainTextResponse(PRIVATE), access), base_url=address)
    return client.get(path, headers={name.replace("_", "-"): value for name, value in headers.items()})


@pytest.mark.parametrize(
    "address", ["http://localhost:8321", "http://127.0.0.1:8321", "http://[::1]:9", "http://LOCALHOST"]
)
def test_the_own_names_are_answered(address: str) -> None:
    answer = ask(LOCAL, address)
    assert (answer.status_code, answer.text) == (200, PRIVATE)


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example:8321", "127.0.0.1.evil.example", "", "[", "10.0.0.5"]
)
def test_a_name_that_was_bound_to_this_machine_gets_nothing(host: str) -> None:
    answer = ask(LOCAL, "http://localhost:8321", host=host)
    assert answer.status_code == 403
    assert PRIVATE not in answer.text


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost:9999", "http://127.0.0.1:8321"])
def test_a_page_of_another_site_gets_nothing(origin: str) -> None:
    answer = ask(LOCAL, "http://localhost:8321", origin=origin)
    assert answer.status_code == 403
    assert "access-control-allow-origin" not in answer.headers


def test_the_own_page_is_answered() -> None:
    own = {"origin": "http://localhost:8321", "sec_fetch_site": "same-origin"}
    assert ask(LOCAL, "http://localhost:8321", **own).status_code == 200


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_another_site_embeds_nothing_but_may_link_to_the_page(site: str) -> None:
    for destination in ("image", "script", "empty", "iframe"):
        refused = ask(LOCAL, "http://localhost:8321", sec_fetch_site=site, sec_fetch_dest=destination)
        assert refused.status_code == 403
    linked = {"sec_fetch_site": site, "sec_fetch_dest": "document"}
    assert ask(LOCAL, "http://localhost:8321", "/", **linked).status_code == 200
    assert ask(LOCAL, "http://localhost:8321", "/api/families", **linked).status_code == 403
    assert ask(OPEN, "http://gpu01:8321", f"/{GIVEN}/", **linked).status_code == 200
    assert ask(OPEN, "http://gpu01:8321", f"/{GIVEN}/api/families", **linked).status_code == 403


@pytest.mark.parametrize("path", ["/", "/api/families", "/other/", "/%C3%A4/", f"/?token={GIVEN}", f"/{GIVEN}"])
def test_other_machines_need_the_token(path: str) -> None:
    answer = ask(OPEN, "http://10.0.0.5:8321", path)
    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers


def test_the_token_begins_the_path_of_every_request_and_no_answer_leaves_a_cookie() -> None:
    for path in ("/", "/api/families"):
        answer = ask(OPEN, "http://gpu01:8321", f"/{GIVEN}{path}")
        assert (answer.status_code, answer.text) == (200, PRIVATE)
        assert "set-cookie" not in answer.headers


def test_a_cookie_or_a_header_with_the_token_opens_nothing() -> None:
    """Any server of the same host receives its cookies, whatever its port."""
    for headers in ({"cookie": f"token={GIVEN}"}, {"authorization": f"Bearer {GIVEN}"}):
        for path in ("/", "/api/families", "/api/commands"):
            assert ask(OPEN, "http://gpu01:8321", path, **headers).status_code == 403


def test_names_of_this_machine_may_be_rebound_but_for_its_own_even_with_the_token() -> None:
    assert ask(OPEN, "http://evil.example:8321", f"/{GIVEN}/").status_code == 403


def test_addresses_for_other_machines_have_tokens_and_loopback_has_none() -> None:
    assert access_of("10.0.0.5", GIVEN).token == GIVEN
    assert access_of("localhost", GIVEN).token is None
    assert access_of("::1", GIVEN).token is None


def test_every_answer_forbids_scripts_and_requests_elsewhere() -> None:
    for answer in (ask(LOCAL, "http://localhost"), ask(LOCAL, "http://localhost", host="evil.example")):
        policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == policy["connect-src"] == policy["style-src"] == "'self'"
        assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"


def test_web_sockets_are_closed() -> None:
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    app = StudioGuard(PlainTextResponse(PRIVATE), LOCAL)
    asyncio.run(app({"type": "websocket", "headers": []}, receive, send))
    assert [message["type"] for message in sent] == ["websocket.close"]
