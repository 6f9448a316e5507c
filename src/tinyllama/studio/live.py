"""Tells open pages how far the families are that changed, by server-sent events.

It looks at the folders only while a page listens. What changed is summarized once for all pages.
"""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from starlette.concurrency import run_in_threadpool

from tinyllama.errors import UserError
from tinyllama.files import explain
from tinyllama.studio.columns import BLOCK

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tinyllama.files import Json
    from tinyllama.studio.families import StudioFamilies, StudioFamily
    from tinyllama.studio.summaries import FamilyView

_PAUSE, _AFTER_NEWS = 0.4, 0.6
"""Seconds between two looks, and after one that found something: a page shows a new step within one second, and where
steps are fast, several together."""
_MOST = 8 * BLOCK
"""Bytes that are read of a model's metrics between two looks."""
_ALIVE = 10.0
"""Seconds after which a page hears something, so that it notices when the studio ends."""
_WAITING = 20
"""Unread events that are kept for a page; if there are more, they are dropped, and the page loads everything anew."""
_UNASKED = 2.0
"""Seconds after which a family is summarized again though its files did not change: its process may have ended."""


@dataclass(frozen=True)
class _Known:
    """What the pages were told of a family."""

    version: int
    view: FamilyView
    at: float
    """When it was summarized, by the monotonic clock."""


class Live:
    """The studio's watch over its folders."""

    def __init__(self, families: StudioFamilies) -> None:
        self._families = families
        self._pages: set[asyncio.Queue[str | None]] = set()
        self._watching: asyncio.Task[None] | None = None
        self._known: dict[str, _Known] = {}

    async def events(self) -> AsyncIterator[str]:
        """Server-sent events for one page.

        `ready` once changes are not missed any more; `change` with the ids of all families and the summaries of those
        that changed; `alive`.
        """
        page: asyncio.Queue[str | None] = asyncio.Queue()
        self._pages.add(page)
        if self._watching is None or self._watching.done():
            self._known = {}
            self._watching = asyncio.create_task(self._watch())
        try:
            yield "retry: 1000\n\n" + event("ready", {})
            while True:
                try:
                    changed = await asyncio.wait_for(page.get(), _ALIVE)
                except TimeoutError:
                    yield event("alive", {})
                else:
                    if changed is None:
                        return
                    yield changed
        finally:
            self._pages.discard(page)

    def end(self) -> None:
        """End the events of all pages, since the studio ends."""
        for page in self._pages:
            page.put_nowait(None)

    async def _watch(self) -> None:
        while self._pages:
            changed, behind = await run_in_threadpool(self._look)
            if changed:
                for page in self._pages:
                    _tell(page, changed)
            await asyncio.sleep(0 if behind else _AFTER_NEWS if changed else _PAUSE)

    def _look(self) -> tuple[str, bool]:
        """What pages are to hear since the last look, and whether a family has more to read at once."""
        known: dict[str, _Known] = {}
        changed: list[FamilyView] = []
        behind = False
        for family in self._families.all():
            before = self._known.get(family.id)
            known[family.id] = now = self._family(family, before)
            behind |= family.behind and not now.view.error  # what cannot be read does not become less
            if before is None or now.view != before.view:
                changed.append(now.view)
        listed = list(known)
        is_news = bool(changed) or listed != list(self._known)
        self._known = known
        return event("change", {"listed": listed, "changed": list(map(asdict, changed))}) if is_news else "", behind

    def _family(self, family: StudioFamily, before: _Known | None) -> _Known:
        error = ""
        try:
            family.update(_MOST)
        except UserError as fault:
            error = str(fault)
        except OSError as fault:
            error = f"{family.layout.root}: {explain(fault) or fault}"
        now = time.monotonic()
        if before is not None and before.version == family.version and now - before.at < _UNASKED:
            return before
        view = family.summary(update=False)
        return _Known(family.version, replace(view, error=view.error or error), now)


def _tell(page: asyncio.Queue[str | None], changed: str) -> None:
    """Give a page an event."""
    if page.qsize() >= _WAITING:
        while not page.empty():
            page.get_nowait()
        changed = event("ready", {})
    page.put_nowait(changed)


def event(name: str, data: Json) -> str:
    """One server-sent event."""
    return f"event: {name}\ndata: {json.dumps(data)}\n\n"
