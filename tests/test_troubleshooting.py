"""docs/troubleshooting.md lists every message of the package by a part that no other message has."""

import pytest

from tests.messages import Module, messages
from tests.troubleshooting import CHECKS, entries

EXAMPLE = """
_LIMIT = "at most 5 are possible"
_log = logging.getLogger(__name__)

class Section(BaseModel):
    def check(self):
        if self.a:
            raise ValueError(f"{self.a} is too much")
        raise UserError("both are wrong: " + (self._hint() if self.b else ""))

    def _hint(self):
        return f"give {self.b}"

def find(path, error: type[TinyLlamaError]):
    problem = f"{path}: nothing is here"
    if path:
        problem = f"{path}: something is here"
    raise error(problem)

def report(reason):
    yield Finding("file", _LIMIT)
    yield Check("name", f"step {reason} is wrong", passed=False)
    yield Check("name", "all steps are right", passed=True)
    yield Text(problem="the text is empty")
    _log.warning("%s of %d files are skipped", 1, 2)
    raise Refusal(400, reason, code="no_message")

def count(files):
    faults = [*missing(files)]
    faults.append("the files differ")
    raise PlanError("; ".join(faults))

def missing(files):
    for file in files:
        yield f"{file}: the file is missing"

report("the body is missing")
raise SystemExit(2)
"""


@pytest.mark.parametrize("title", CHECKS)
def test_page_and_code_have_the_same_messages(title: str) -> None:
    found = CHECKS[title]()
    assert not found, "\n  ".join([f"{len(found)} {title} (all: python -m tests.troubleshooting):", *found])


def test_messages_of_every_kind_are_found() -> None:
    assert {message.text for message in Module("example.py", EXAMPLE).messages()} == {
        "… is too much",
        "both are wrong: give …",
        "both are wrong:",
        "…: nothing is here",
        "…: something is here",
        "at most 5 are possible",
        "step the body is missing is wrong",
        "the text is empty",
        "… of … files are skipped",
        "the body is missing",
        "…: the file is missing",
        "the files differ",
    }
    assert len(messages()) > 300


def test_every_entry_has_a_cause_or_a_remedy() -> None:
    assert not [entry for entry in entries() if len(entry.advice.split()) < 4]
