"""Who watches the studio: its page in Chromium, or, where there is none, the requests that the page makes."""

from __future__ import annotations

import json
import shutil
import time
from contextlib import closing
from http.client import HTTPConnection
from threading import Thread
from typing import Any, Protocol
from urllib.parse import quote, urlencode, urlsplit

_TIMEOUT = 120.0
_PAUSE = 0.01


class Viewer(Protocol):
    """A reader of the first model of a family."""

    def open(self, address: str, family: str) -> float:
        """Open the studio at a family; returns seconds until a curve is drawn."""

    def wait_for(self, step: int) -> float:
        """Wait until a step is shown; returns seconds."""

    def close(self) -> None:
        """End it."""


def open_viewer() -> tuple[str, Viewer]:
    """What watches here, in words, and a viewer."""
    chromium = shutil.which("chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        chromium = None
    if chromium is None:
        return "the requests of the page, without a browser", RequestsViewer()
    return "Chromium", ChromiumViewer(sync_playwright().start(), chromium)


class ChromiumViewer:
    """The page in a browser."""

    def __init__(self, playwright: Any, chromium: str) -> None:  # noqa: ANN401  # the package may not be installed
        self._playwright = playwright
        self._browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        self._page: Any = None

    def open(self, address: str, family: str) -> float:
        """Open the studio at a family; returns seconds until a curve is drawn."""
        if self._page is not None:
            self._page.context.close()
        self._page = self._browser.new_context().new_page()
        began = time.perf_counter()
        self._page.goto(f"{address}#runs/{quote(family)}")
        self._page.wait_for_selector("figure path.line", state="attached", timeout=1000 * _TIMEOUT)
        return time.perf_counter() - began

    def wait_for(self, step: int) -> float:
        """Wait until a step is shown; returns seconds."""
        began = time.perf_counter()
        shown = "text => document.querySelector('table.models tbody tr').cells[3].textContent === text"
        self._page.wait_for_function(shown, arg=f"{step:,}", timeout=1000 * _TIMEOUT)
        return time.perf_counter() - began

    def close(self) -> None:
        """End the browser."""
        self._browser.close()
        self._playwright.stop()


class RequestsViewer:
    """Asks for what the page asks for, as often as it does, and draws nothing."""

    def __init__(self) -> None:
        self._views: dict[str, Any] = {}
        self._follower: Thread | None = None
        self._is_closed = False

    def open(self, address: str, family: str) -> float:
        """Open the studio at a family; returns seconds until its curves are here."""
        self.close()
        began = time.perf_counter()
        page = _get(address).decode()
        names = [part.split('"')[0] for part in page.split('"static/')[1:]]
        for name in names:
            _get(f"{address}static/{name}")
        self._views = {view["id"]: view for view in json.loads(_get(f"{address}api/families"))["families"]}
        curves = json.loads(_get(f"{address}api/families/{quote(family)}/curves?points=1200"))
        self._is_closed = False
        self._follower = Thread(target=self._follow, args=(address, family, curves), daemon=True)
        self._follower.start()
        return time.perf_counter() - began

    def wait_for(self, step: int) -> float:
        """Wait until a step is here; returns seconds."""
        began = time.perf_counter()
        while not any(view["models"] and view["models"][0]["step"] == step for view in self._views.values()):
            if time.perf_counter() - began > _TIMEOUT:
                raise TimeoutError(f"step {step} does not arrive")
            time.sleep(_PAUSE)
        return time.perf_counter() - began

    def close(self) -> None:
        """Stop asking once the next event is here."""
        self._is_closed = True

    def _follow(self, address: str, family: str, curves: dict[str, Any]) -> None:
        with closing(_ask(f"{address}api/events")) as connection:
            for line in connection.getresponse():
                if self._is_closed:
                    return
                if not line.startswith(b"data: ") or "changed" not in (event := json.loads(line[6:])):
                    continue
                self._views |= {view["id"]: view for view in event["changed"]}
                for view in event["changed"]:
                    for model in view["models"] if view["id"] == family else ():
                        _renew(f"{address}api/families/{quote(family)}/curves?", curves, model)


def _renew(address: str, curves: dict[str, Any], model: dict[str, Any]) -> None:
    """Ask for what came to a model's curves."""
    held = curves.get(model["name"], {"tokens": [], "width": 0, "history": 0, "version": 0})
    if model["version"] <= held["version"]:
        return
    after = held["tokens"][-2] if len(held["tokens"]) > 1 else -1
    asked = {"points": 1200, "model": model["name"], "after": after, "width": held["width"], "history": held["history"]}
    curves |= json.loads(_get(address + urlencode(asked)))


def _get(address: str) -> bytes:
    with closing(_ask(address)) as connection:
        return connection.getresponse().read()


def _ask(address: str) -> HTTPConnection:
    url = urlsplit(address)
    connection = HTTPConnection(url.netloc, timeout=_TIMEOUT)
    connection.request("GET", f"{url.path}?{url.query}")
    return connection
