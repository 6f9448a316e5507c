"""Pages of other sites, other services of the machine and names that are bound to it get nothing."""

from __future__ import annotations

import json
import re
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING

import httpx2
import pytest

from tests.conftest import SMALL
from tests.studio.browser.pages import CHROMIUM, api
from tests.studio.process import studio
from tests.studio.test_control import LONG
from tinyllama.recipe import dump_recipe, load_recipe

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, Playwright

pytestmark = pytest.mark.browser


@contextmanager
def elsewhere() -> Iterator[tuple[str, list[str]]]:
    """A server on another port of this machine: its address, and the cookies that browsers sent it."""
    cookies: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            cookies.extend(self.headers.get_all("cookie", []))
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write(b"<p>another service</p>")

        def log_message(self, *_arguments: object) -> None:
            """Write nothing to the terminal."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/", cookies
        server.shutdown()


def test_another_service_of_this_machine_learns_no_token_and_changes_nothing(browser: Browser, tmp_path: Path) -> None:
    text = dump_recipe(load_recipe("nano", (*SMALL, *LONG)))
    with studio(str(tmp_path), "--control") as (address, _), elsewhere() as (other, cookies):
        context = browser.new_context()
        page = context.new_page()
        page.goto(f"{address}#recipe")
        api.expect(page.get_by_role("button", name="Start training")).to_be_visible()
        page.goto(other)
        root = re.findall(r"http://[^/]+/", address)[0]
        send = """([address, body, mode]) => fetch(address, {method: "POST", mode, body, credentials: "include"})
            .then((answer) => answer.text()).catch(() => "nothing")"""
        for begin in (root, address):  # even with the token, which it cannot know
            for mode in ("cors", "no-cors"):
                asked = [f"{begin}api/commands", json.dumps({"text": text}), mode]
                assert page.evaluate(send, asked) in {"nothing", ""}
        page.set_content(f'<form method="post" enctype="text/plain" action="{address}api/commands"><button>go</button>')
        page.get_by_role("button").click()
        api.expect(page.get_by_text("pages of other sites get nothing")).to_be_visible()
        assert not cookies
        assert httpx2.get(f"{address}api/commands").json() == {"commands": []}
        assert not list(tmp_path.iterdir())
        context.close()


def test_a_name_that_is_bound_to_this_machine_shows_nothing(playwright: Playwright, runs: Path) -> None:
    rules = "--host-resolver-rules=MAP evil.example 127.0.0.1"
    rebound = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", rules])
    with studio(str(runs)) as (address, _):
        page = rebound.new_page()
        page.goto(address.replace("127.0.0.1", "evil.example"))
        assert page.inner_text("body").startswith("this name is not one of the studio")
        read = "fetch('/api/families').then((answer) => answer.text())"
        assert "nano" not in page.evaluate(read)
    rebound.close()


def test_a_page_of_another_site_gets_nothing(browser: Browser, runs: Path) -> None:
    with studio(str(runs)) as (address, _):
        context = browser.new_context()
        page = context.new_page()
        page.route(
            "http://elsewhere.example/*",
            lambda route: route.fulfill(body="<p>another site</p>", content_type="text/html"),
        )
        page.goto("http://elsewhere.example/")
        for mode in ("cors", "no-cors"):
            read = "([address, mode]) => fetch(address, {mode}).then(answer => answer.text()).catch(() => 'nothing')"
            assert page.evaluate(read, [f"{address}api/families", mode]) in {"nothing", ""}
        shown = "address => new Promise(end => { const image = new Image(); image.onerror = () => end(false); "
        shown += "image.onload = () => end(true); image.src = address; })"
        assert not page.evaluate(shown, f"{address}static/studio.css")
        context.close()
