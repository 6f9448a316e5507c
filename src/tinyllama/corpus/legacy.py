"""Manifests of format 1, which commit 4bd9be0 wrote: how they are read, and their spelling, which is what is hashed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tinyllama.files import sha256_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import JsonValue

FORMAT_1 = 1
_TODAYS_NAMES = {"kept_aside": "quarantined", "licence": "license"}
"""Key of format 1 → key of today, in the manifest and in its sources."""
_OLD_NAMES = {"quarantined": "kept_aside"}
_OLD_NAMES_OF_A_SOURCE = {"license": "licence"}


def upgraded(manifest: Mapping[str, JsonValue], file_format: int) -> dict[str, JsonValue]:
    """A manifest of format 1 in the spelling of `file_format`."""
    return _renamed(manifest, _TODAYS_NAMES, _TODAYS_NAMES) | {"format": file_format}


def identity(manifest: Mapping[str, JsonValue]) -> str:
    """Hex SHA-256 of a manifest in the spelling of format 1: a corpus keeps its identity whatever version wrote it."""
    return sha256_json(_renamed(manifest, _OLD_NAMES, _OLD_NAMES_OF_A_SOURCE) | {"format": FORMAT_1})


def rounded_share(keys: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """A request's keys with the held-out share in 10 digits, as format 1 wrote it, whatever the recipe said."""
    held_out = keys.get("held_out")
    if not isinstance(held_out, dict) or not str(held_out.get("share")).endswith("%"):
        return dict(keys)
    rounded = f"{float(str(held_out['share']).removesuffix('%')):.10g}%"
    return {**keys, "held_out": {**held_out, "share": rounded}}


def _renamed(
    manifest: Mapping[str, JsonValue], names: Mapping[str, str], names_of_a_source: Mapping[str, str]
) -> dict[str, JsonValue]:
    """A manifest with other names for keys of its own, and for keys of its sources."""
    renamed = {names.get(key, key): value for key, value in manifest.items()}
    sources = renamed.get("sources")
    if isinstance(sources, list):
        renamed["sources"] = [
            {names_of_a_source.get(key, key): value for key, value in source.items()}
            if isinstance(source, dict)
            else source
            for source in sources
        ]
    return renamed
