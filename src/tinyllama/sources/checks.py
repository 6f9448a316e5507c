"""Checks of a corpus's sources that take seconds, before anything is trained or prepared from them."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from tinyllama.errors import CorpusError, SourceError
from tinyllama.sources.columnar import column_names
from tinyllama.sources.files import FileFinder
from tinyllama.sources.record import lookup
from tinyllama.sources.records import COLUMN_SUFFIXES, read_records, record_suffix
from tinyllama.text import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tinyllama.recipe import Corpus, Source
    from tinyllama.sources.files import SourceFile
    from tinyllama.sources.record import Fields
    from tinyllama.sources.rejected import Reasons, Rejected

_FILES = 50
"""Files of a source of which one has to hold a text."""
_RECORDS = 100
"""Records of a file that are looked at."""
_NAMED = 20


def check_sources(corpus: Corpus, name: str, root: Path) -> None:
    """Refuse sources that are not there, and those whose first files have no text field.

    Args:
        corpus: the recipe's corpus.
        name: its name, for messages.
        root: folder that relative file patterns start from.

    Raises:
        CorpusError: a pattern matches nothing, or no record has the text field; the message names the fields that are
            there. Remote sources that cannot be reached are not checked.
    """
    finder = FileFinder(root, name, _ignore)
    for index, source in enumerate(corpus.sources):
        if source.files is None:
            continue
        try:
            fields = _fields_without_text(finder.find(source)[:_FILES], source)
        except (OSError, SourceError):
            continue  # reported where the source is read
        if fields:
            hint = did_you_mean(source.text_field, fields)
            named = ", ".join(fields[:_NAMED]) + (", …" if len(fields) > _NAMED else "")
            raise CorpusError(
                f"corpora.{name}.sources.{index}.text_field: no record of {source.files} has a field "
                f"{source.text_field!r}{hint}; its fields are {named}; name the one that holds the text"
            )


def explain_nothing(corpus: Corpus, name: str, reasons: Reasons) -> str:
    """Why a corpus has no document, for a message."""
    filters = [source.where for source in corpus.sources if source.where is not None]
    if filters and not str(reasons):
        return f"corpus {name}: `where` selects no document: {filters[0]}; correct it"
    if corpus.filters is not None or corpus.decontaminate:
        return f"corpus {name}: no document is left by its sources, filters and decontaminate{reasons}"
    return f"corpus {name}: no document could be read; check its sources{str(reasons) or ', which are empty'}"


def _fields_without_text(files: Sequence[SourceFile], source: Source) -> list[str]:
    """The fields of all records in some files; none if one of the files may hold a text."""
    fields: dict[str, None] = {}
    for file in files:
        suffix = record_suffix(file.origin)
        if suffix is None:
            return []
        with file.open() as opened:
            if suffix in COLUMN_SUFFIXES:
                names = column_names(opened, suffix)
                if source.text_field in names or source.text_field.partition(".")[0] in names:
                    return []
                fields |= dict.fromkeys(names)
                continue
            for record in islice(read_records(opened, suffix, source.text_field), _RECORDS):
                if lookup(record.fields, source.text_field) is not None:
                    return []
                fields |= dict.fromkeys(_dotted(record.fields))
    return list(fields)


def _dotted(fields: Fields) -> Iterator[str]:
    """The names of fields, those of nested objects with dots."""
    for name, value in fields.items():
        if isinstance(value, dict):
            yield from (f"{name}.{inner}" for inner in _dotted(value))
        else:
            yield name


def _ignore(_rejected: Rejected) -> None:
    """Ignore files that are not read; they are recorded when the corpus is prepared."""
