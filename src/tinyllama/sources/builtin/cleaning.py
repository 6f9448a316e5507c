"""Plain text out of the formats that builtin sources come in: Metamath databases, manual pages, docstrings."""

from __future__ import annotations

import re
from inspect import cleandoc
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_COMMENT_OR_PROOF = re.compile(r"(?<!\S)(?:\$\(\s.*?\s\$\)|\$=\s.*?(?<!\S)\$\.)(?!\S)", re.DOTALL)
_SECTION = re.compile(r"^(?=\$\([ \t]*\n(?:#{4}|#\*#\*|=-=-|-\.-\.))", re.MULTILINE)


def strip_proofs(database: str) -> str:
    """A Metamath database with each `$= proof $.` replaced by `$.`; comments stay."""
    return _COMMENT_OR_PROOF.sub(lambda match: "$." if match[0].startswith("$=") else match[0], database)


def metamath_sections(database: str) -> list[str]:
    """A Metamath database, divided before each heading comment; joined, the parts are the database."""
    return [section for section in _SECTION.split(database) if section]


_ESCAPE = re.compile(
    r"""\\(?:
        (?P<comment>["\#].*)
      | [fF](?:\[[^\]]*\]|\(..|.) | s[-+]?(?:\[[^\]]*\]|\(..|'[^']*'|[1-3][0-9]|[0-9])  # font, size
      | [hvwlLoDNbCSHXxZAR]'[^']*' | [nkgmMVY][-+]?(?:\[[^\]]*\]|\(..|.)          # motion, drawing, registers
      | \*(?:\[(?P<string1>[^\]]*)\]|\((?P<string2>..)|(?P<string3>.))
      | \((?P<glyph1>..) | \[(?P<glyph2>[^\]]*)\]
      | (?P<nothing>[&/,|^%:)cpudz{}!?]) | (?P<space>[ 0~]) | (?P<backslash>[e\\]) | (?P<tab>t)
      | (?P<other>.)
    )?""",
    re.VERBOSE,
)
_GLYPHS = {
    "aq": "'", "dq": '"', "oq": "\u2018", "cq": "\u2019", "lq": "“", "rq": "”", "em": "—", "en": "\u2013",
    "--": "\u2013", "hy": "-", "mi": "-", "pl": "+", "eq": "=", "bu": "•", "sq": "□", "co": "©", "rg": "®",
    "tm": "™", "ha": "^", "ti": "~", "ga": "`", "aa": "\u00b4", "rs": "\\", "sl": "/", "ul": "_", "ru": "_",
    "ba": "|", "bv": "|", "br": "|", "or": "|", "->": "→", "<-": "←", "mu": "\u00d7", ">=": "≥", "<=": "≤",
    "!=": "≠", "+-": "±", "de": "°", "sc": "§", "ss": "ß", "lB": "[", "rB": "]", "lC": "{", "rC": "}",
    "la": "⟨", "ra": "⟩", "at": "@", "sh": "#", "Do": "$", "*b": "β", "*m": "μ", "R": "®", "Tm": "™",
    "C+": "C++", "PI": "π", 'L"': "“", 'R"': "”",
}  # fmt: skip
"""Characters and predefined strings by their roff names; others become nothing."""

_ARGUMENT = re.compile(r'"((?:[^"]|"")*)"?|((?:\\.|[^\s\\])+)')
_REQUEST = re.compile(r"[.\'][ \t]*(\\?[^\s\\]*)(.*)")

_CELL = re.compile(r"T[{}]")

_HEADINGS = {"SH", "SS", "Sh", "Ss"}
_WORDS = {"B", "I", "SM", "SB", "R", "CW", "UR", "MT", "Dl", "D1", "Li"}
_ALTERNATING = {"BI", "BR", "IB", "IR", "RB", "RI"}
_BREAKS = {"PP", "LP", "P", "sp", "Sp", "HP", "Pp", "Bl", "El", "Bd", "Ed"}
_MDOC_NAMES = (
    "Ac Ad An Ao Ap Aq Ar Bc Bo Bq Cd Cm Dc Do Dq Dv Ec Em Eo Er Ev Fa Fc Fl Fn Fo Ft Ic In It Lk Ms "
    "Mt Nd Nm No Ns Oc Oo Op Pa Pc Po Pq Qc Ql Qo Qq Sc Sm So Sq St Sx Sy Tn Ux Va Vt Xc Xo Xr"
)
_MDOC = frozenset(_MDOC_NAMES.split())


def roff_to_text(page: str) -> str:
    """The text of a manual page (man or mdoc macros) without requests, fonts and sizes, line by line.

    Macro definitions, conditionals, table formats and comments are removed; headings and paragraphs are separated by
    blank lines. The result is meant for reading, not for typesetting.
    """
    lines: list[str] = []
    for line in _without_programs(page.splitlines()):
        request = _REQUEST.fullmatch(line)
        if request is not None:
            lines.extend(_request_text(request[1], request[2]))
        elif line.startswith(("T{", "T}")) or line.endswith("T{"):  # a table's cell of several lines
            lines.append(_unescape(_CELL.sub("", line)).strip("\t"))
        else:
            lines.append(_unescape(line))
    text = "\n".join(line.rstrip() for line in lines)
    return re.sub(r"\n{3,}", "\n\n", text).strip("\n") + "\n" if text.strip() else ""


def _without_programs(lines: Iterable[str]) -> Iterator[str]:
    """Lines outside macro definitions, conditionals and table formats."""
    ended: Callable[[str], bool] | None = None
    depth = 0
    for line in lines:
        request = _REQUEST.fullmatch(line)
        name = request[1] if request else ""
        if ended is not None:
            ended = None if ended(line) else ended
        elif depth or name in {"if", "ie", "el", "while"}:
            depth = max(0, depth + line.count(r"\{") - line.count(r"\}"))
        elif name in {"de", "de1", "am", "ig"}:
            ended = _ends_definition
        elif name == "TS":
            ended = _ends_table_format
        else:
            yield line


def _ends_definition(line: str) -> bool:
    return line.startswith("..")


def _ends_table_format(line: str) -> bool:
    return line.rstrip().endswith(".") or line.startswith(".TE")


def _request_text(name: str, rest: str) -> list[str]:
    """The lines of text that a macro with its arguments produces."""
    arguments = [_unescape(quoted.replace('""', '"') if quoted else plain) for quoted, plain in _ARGUMENT.findall(rest)]
    if name in _HEADINGS:
        return ["", " ".join(arguments)]
    if name in _WORDS:
        return [" ".join(arguments)] if arguments else []
    if name in _ALTERNATING:
        return ["".join(arguments)] if arguments else []
    if name in {"IP", "TP"}:
        return ["", *arguments[:1]] if name == "IP" else [""]
    if name in _MDOC:
        return [_mdoc_text([name, *arguments])]
    return [""] if name in _BREAKS else []


def _mdoc_text(words: list[str]) -> str:
    """A line of mdoc macros as text: names vanish, flags get a dash, options brackets, pages their section."""
    text: list[str] = []
    closing = ""
    pending = iter(words)
    for word in pending:
        if word == "Fl":
            text.append("-" + next(pending, ""))
        elif word == "Xr":
            text.append(f"{next(pending, '')}({next(pending, '')})")
        elif word == "Op":
            text.append("[")
            closing += " ]"
        elif word not in _MDOC:
            text.append(word)
    return " ".join(text) + closing


def _unescape(text: str) -> str:
    return _ESCAPE.sub(_escape_text, text)


def _escape_text(match: re.Match[str]) -> str:
    found = match.groupdict()
    name = next((found[key] for key in ("string1", "string2", "string3", "glyph1", "glyph2") if found[key]), None)
    if name is not None:
        return _GLYPHS.get(name, "")
    if found["space"]:
        return " "
    if found["backslash"]:
        return "\\"
    return "\t" if found["tab"] else found["other"] or ""


_DOCSTRING = re.compile(r'^[ \t]*[rR]?"""(.*?)"""', re.MULTILINE | re.DOTALL)
_FIELD = re.compile(r"^:(?:param|type|rtype)\b.*\n?", re.MULTILINE)
_CHINESE = re.compile("[\u4e00-\u9fff]")


def docstrings(module: str) -> list[str]:
    """The docstrings of a Python module: texts in triple quotes that begin a line. Much faster than to parse it."""
    return [text for quoted in _DOCSTRING.findall(module) if (text := cleandoc(quoted).strip())]


def without_fields(docstring: str) -> str:
    """A docstring without the lines that state parameters and types (`:param x:`, `:type x:`, `:rtype:`)."""
    return _FIELD.sub("", docstring).strip()


def holds_chinese(text: str) -> bool:
    """Whether a text has a Chinese character."""
    return _CHINESE.search(text) is not None
