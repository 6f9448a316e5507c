"""Each set of rules keeps plain prose, and drops what its publication says, by datatrove's own name of the reason."""

import pytest

from tinyllama.quality.rules import apply_rules
from tinyllama.recipe.filters import Rule

PROSE = """The council of the town met on Tuesday to speak about the bridge over the river.
It had been closed since spring, and nobody knew when work on it would begin again.
Farmers on the far bank said that they lost two hours every morning on the long way round.
A builder from the next valley offered to mend the piers for less than the county had asked.
His plan used stone from the old mill, which has stood empty since the flood of last year.
After a long debate the members voted to accept it, with one voice against and two absent.
Work should start before the harvest, and the first carts may cross when the leaves fall."""
STOP_WORDS = ("the", "of", "to", "and")
BROKEN: dict[Rule, dict[str, str]] = {
    "gopher": {
        "gopher_short_doc": "The council of the town met.",
        "gopher_too_many_hashes": PROSE + " #" * 30,
        "gopher_below_alpha_threshold": PROSE + " 12 345" * 60,
    },
    "gopher_repetition": {"dup_line_frac": "The bridge was closed again in spring.\n" * 9 + PROSE},
    "c4": {"curly_bracket": PROSE.replace("town", "{town}"), "lorem_ipsum": PROSE + "\nLorem ipsum dolor sit amet."},
    "fineweb": {
        "line_punct_ratio": "\n".join(f"Item {number} of the long list without an end" for number in range(20)),
        "short_line_ratio": "\n".join(f"Number {number}." for number in range(20)),
    },
}


@pytest.mark.parametrize("name", BROKEN)
def test_plain_prose_breaks_no_rule(name: Rule) -> None:
    assert apply_rules(name, PROSE, STOP_WORDS) == (PROSE, "")


@pytest.mark.parametrize(("name", "reason"), [(name, reason) for name, texts in BROKEN.items() for reason in texts])
def test_a_text_is_dropped_for_the_reason_that_was_published(name: Rule, reason: str) -> None:
    assert apply_rules(name, BROKEN[name][reason], STOP_WORDS).broken == reason
