"""What commit 4bd9be0 wrote, in today's names; and its spelling of what is hashed, which fingerprints keep."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import JsonValue

SKIPPED_IN_FINGERPRINTS = "left_out"
"""Key of the skipped steps inside the hash: with another name, families trained before would change theirs."""
_RENAMED = {"facts": "fingerprint_inputs", "left_out": "skipped", "torch": "torch_version"}


def inputs_in_force(inputs: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """Fingerprint inputs as they acted: 4bd9be0 separated documents at BOS alone, so it masked nothing without BOS."""
    unmasked = inputs.get("document_masking") is True and inputs.get("tokenizer.bos") is False
    return dict(inputs) | ({"document_masking": False} if unmasked else {})


def upgraded_state(state: Mapping[str, JsonValue], file_format: int) -> dict[str, JsonValue]:
    """A `state.json` without a format number as one of format `file_format`; other keys mean what they did."""
    return {"format": file_format} | {_RENAMED.get(key, key): value for key, value in state.items()}
