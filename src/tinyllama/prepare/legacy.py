"""Results of tasks as commit 4bd9be0 wrote them, without a format number, for preparations that it began."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import JsonValue

TASK_FORMAT_0 = 0
"""Format of a `task.json` without a format number."""


def upgraded_result(result: Mapping[str, JsonValue], file_format: int) -> dict[str, JsonValue]:
    """A result of format 0 in the spelling of `file_format`."""
    return {"quarantined" if key == "kept_aside" else key: value for key, value in result.items()} | {
        "format": file_format
    }
