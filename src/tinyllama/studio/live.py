"""Tells open pages which families changed, by server-sent events; looks at the folders only while a page listens."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

from starlette.concurrency import run_in_threadpool

from tinyllama.errors import UserError
from tinyllama.studio.columns import BLOCK

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tinyllama.files import Json
    from tinyllama.studio.families import StudioFamilies

_PAUSE = 0.3
"""Seconds between two looks, so that a page shows a new step within one second."""
_MOST = 8 * BLOCK
"""Bytes that are read of a model's metrics between two looks."""
_ALIVE = 10.0
"""Seconds after which a page hears something, so that it notices when the studio ends, or a run stops."""


class Live:
    """The studio's watch over its folders."""

    def __init__(self, families: StudioFamilies) -> None:
        self._families = families
        self._pages: set[asyncio.Queue[list[str]]] = set()
        self._watching: asyncio.Task[None] | None = None
        self._versions: dict[str, int] = {}

    async def events(self) -> AsyncIterator[str]:
        """Server-sent events for one page: `change` with the ids of families, and `alive`."""
        page: asyncio.Queue[list[str]] = asyncio.Queue()
        self._pages.add(page)
        if self._watching is None or self._watching.done():
            self._versions = {}
            self._watching = asyncio.create_task(self._watch())
        try:
            yield "retry: 1000\n\n"
            while True:
                try:
                    changed = await asyncio.wait_for(page.get(), _ALIVE)
                except TimeoutError:
                    yield event("alive", {})
                else:
                    yield event("change", changed)
        finally:
            self._pages.discard(page)

    async def _watch(self) -> None:
        while self._pages:
            changed, behind = await run_in_threadpool(self._look)
            if changed:
                for page in self._pages:
                    page.put_nowait(changed)
            await asyncio.sleep(0 if behind else _PAUSE)

    def _look(self) -> tuple[list[str], bool]:
        """The families that changed since the last look, and whether one has more to read at once."""
        versions, behind = {}, False
        for family in self._families.all():
            try:
                family.update(_MOST)
            except UserError:
                versions[family.id] = -1  # the page asks, and shows why
            else:
                versions[family.id] = family.version
                behind |= family.behind
        changed = [name for name in {**versions, **self._versions} if versions.get(name) != self._versions.get(name)]
        self._versions = versions
        return changed, behind


def event(name: str, data: Json) -> str:
    """One server-sent event."""
    return f"event: {name}\ndata: {json.dumps(data)}\n\n"
