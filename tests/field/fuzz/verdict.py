"""What a case must not do."""

from __future__ import annotations

import hashlib
import json
import os
import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.field.commands import Outcome
    from tests.field.fuzz.case import Case

_ENDS = {0, 1, 2, 130, 143}
_OURS = ("runs/field", "runs/started")
_NEW = ("runs", "evaluations", "home", "cache", "tmp", "out", "new", "copies", "stored")
"""Folders in which a command may make files, besides those that its options name."""
_TRACEBACKS = ("Traceback (most recent call last)", "Exception ignored in", "Fatal Python error")
_FRAME = re.compile(r'File "[^"]*?/((?:src/tinyllama|site-packages|fuzz|python3[.\d]*)/[^"]+)", line (\d+), in (\S+)')
_MINE = b"mine"


class Fault(NamedTuple):
    """What is wrong with how a command ended."""

    kind: str
    """The same for cases with the same cause, as far as can be told."""
    detail: str


def snapshot(folder: Path) -> dict[str, str]:
    """What each file, link and folder below a folder is, by its path."""
    found: dict[str, str] = {}
    for root, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = os.path.join(root, name)  # noqa: PTH118  # names that are no UTF-8 stay as they are
            found[os.path.relpath(path, folder)] = _content(path)
    return found


def _content(path: str) -> str:
    if os.path.islink(path):  # noqa: PTH114  # as above
        return f"-> {os.readlink(path)}"  # noqa: PTH115  # as above
    if os.path.isdir(path):  # noqa: PTH112  # as above
        return "folder"
    with open(path, "rb") as file:  # noqa: PTH123  # as above
        return hashlib.file_digest(file, "sha256").hexdigest()


def judge(case: Case, outcome: Outcome, before: Mapping[str, str], after: Mapping[str, str]) -> list[Fault]:
    """The faults of a case, given the files before and after it."""
    faults = []
    text = outcome.err + outcome.out
    if any(sign in text for sign in _TRACEBACKS):
        faults.append(Fault(_last_frames(text), text[-6000:]))
    elif outcome.code == -9:
        faults.append(Fault(f"hang: {' '.join(case.argv[:2])}", text[-1500:]))
    elif case.interrupt is None or outcome.code != -case.interrupt[0]:
        faults += _judge_end(case, outcome)
    return faults + _judge_files(case, before, after)


def _judge_end(case: Case, outcome: Outcome) -> list[Fault]:
    if outcome.code not in _ENDS:
        return [Fault(f"exit code {outcome.code}: {' '.join(case.argv[:2])}", outcome.err[-3000:])]
    if outcome.code in {1, 2} and "Error: " not in outcome.err:
        return [Fault(f"exit code {outcome.code} without a message: {' '.join(case.argv[:2])}", outcome.err[-3000:])]
    if outcome.code == 0 and "--json" in case.argv and not _is_json(outcome.out):
        return [Fault(f"--json prints no JSON: {' '.join(case.argv[:2])}", outcome.out[-3000:])]
    return []


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return text.startswith("Usage") or "\nUsage" in text[:200]
    return True


def _last_frames(text: str) -> str:
    """The last frame of ours in the last traceback, and its error."""
    last = text[text.rindex("Traceback") :] if "Traceback" in text else text
    frames = [frame for frame in _FRAME.findall(last) if "tinyllama/" in frame[0] or "fuzz/" in frame[0]]
    errors = [line for line in last.split("\n")[1:] if line and not line.startswith((" ", "+"))]
    where = "{0} in {2}".format(*frames[-1]) if frames else "?"
    return f"{where}: {errors[0].partition(':')[0] if errors else '?'}"


def _judge_files(case: Case, before: Mapping[str, str], after: Mapping[str, str]) -> list[Fault]:
    faults = []
    what = " ".join(case.argv[:2])
    mine = hashlib.sha256(_MINE).hexdigest()
    for name, content in before.items():
        ours = name.startswith(_OURS) and content != mine
        if not ours and after.get(name) != content:
            kind = "lost" if name not in after else "changed"
            faults.append(Fault(f"a file of the user's was {kind}: {what}: {name.split('/')[0]}", name))
    allowed = (*_NEW, *_named(case))
    stated = (case.files.get("odd.yaml") or b"").decode(errors="replace") + " ".join(
        case.argv
    )  # folders that keys name
    new = [name for name in after if name not in before and name.partition("/")[0] not in stated]
    strange = [name for name in new if not _is_below(name, allowed)]
    if strange:
        faults.append(Fault(f"a new file outside of our folders: {what}", ", ".join(strange[:9])))
    return faults


def _named(case: Case) -> list[str]:
    """Places that the command was told to write to."""
    argv = list(case.argv)
    places = [os.path.normpath(argv[i + 1]) for i in range(len(argv) - 1) if argv[i] in {"--run", "--out", "--parquet"}]
    places += [case.links[place] for place in places if place in case.links]
    single = [f"{os.path.normpath(word)}-{kind}-gguf" for word in argv for kind in ("F16", "F32", "BF16", "Q8_0")]
    return places + (single if argv[0] in {"export", "serve"} else [])


def _is_below(name: str, folders: tuple[str, ...]) -> bool:
    return any(folder in {".", name} or name.startswith(f"{folder}/") for folder in folders)
