"""Names of keys in the metrics.jsonl that commit 4bd9be0 wrote, which has no header; a resumed file holds both."""

from pydantic import AliasChoices

MFU = AliasChoices("mfu", "utilisation")
SKIPPED = AliasChoices("skipped", "left_out")
