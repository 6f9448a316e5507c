"""Addresses of people and machines in a text, replaced as datatrove does."""

from __future__ import annotations

import re

_POSSIBLE = re.compile(r"@|[0-9]\.[0-9]")
"""What every text with an address has."""


def mask_addresses(text: str) -> str:
    """A text with other e-mail addresses, and other IPv4 addresses in place of public ones.

    Datatrove takes its replacements in turn; here the turn begins anew with each text, so that the result depends on
    the text alone.
    """
    if not _POSSIBLE.search(text):
        return text
    from datatrove.pipeline.formatters.pii import PIIFormatter  # an extra

    masked: str = PIIFormatter().format(text)
    return masked
