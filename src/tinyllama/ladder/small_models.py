"""Train and measure a small model of a recipe, in a folder of its own, on the text of the recipe's family."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, SupportsFloat

from tinyllama.corpus.manifest import HELD_OUT
from tinyllama.family import Family
from tinyllama.ladder.shared_text import share_text

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tinyllama.corpus.manifest import PreparedCorpus
    from tinyllama.design.rungs import Rung
    from tinyllama.family.prepare import Prepared


def train_small(
    family: Family, rung: Rung, folder: Path, shares: Mapping[str, SupportsFloat], prepared: Prepared
) -> dict[str, float]:
    """Train what is missing of a small model's branches, and measure them.

    Args:
        family: the recipe's.
        rung: the small model.
        folder: where it gets a folder of its name.
        shares: of the corpora in the loss.
        prepared: the family's text.

    Returns:
        Branch → held-out loss in nats a token, in the order of `rung.ends`.

    Raises:
        CorpusError: the small model has another text than the family.
        CheckpointError: it was trained for another recipe.
        DivergedError: training stopped at a loss that is not finite.
        Interrupted: a signal stopped training; the state was saved first.
    """
    own = Family(rung.recipe, folder / rung.name, root=family.work.root, progress=family.work.progress)
    share_text(prepared, family, own)
    own.train()
    records = own.evaluate()
    return {branch: mean_loss(records[branch].bits_by_text, shares, prepared.corpora) for branch in rung.ends}


def mean_loss(
    bits_per_byte: Mapping[str, float], shares: Mapping[str, SupportsFloat], corpora: Mapping[str, PreparedCorpus]
) -> float:
    """Held-out loss in nats a token, the mean over the corpora by their shares."""
    total = 0.0
    for corpus, share in shares.items():
        if share:
            bytes_per_token = corpora[corpus].text_bytes(HELD_OUT) / corpora[corpus].tokens(HELD_OUT)
            total += float(share) * bits_per_byte[corpus] * math.log(2) * bytes_per_token
    return total
