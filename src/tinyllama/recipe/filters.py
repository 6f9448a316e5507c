"""Filters of documents: expressions in `where`, over fields or statistics, and the sections of filters and copies."""

from __future__ import annotations

import ast
import warnings
from fractions import Fraction
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from tinyllama.recipe.quantities import Flag, Share
from tinyllama.recipe.section import PositiveCount, Section, WrongKey
from tinyllama.text import did_you_mean, shown

if TYPE_CHECKING:
    from collections.abc import Callable

_LONGEST = 10_000
"""Characters of an expression."""
_FUNCTIONS = {"len": len, "lower": lambda value: str(value).lower()}
_ALLOWED = (
    ast.Expression, ast.BoolOp, ast.And, ast.Or, ast.UnaryOp, ast.Not, ast.USub, ast.Compare, ast.Eq, ast.NotEq,
    ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.In, ast.NotIn, ast.Is, ast.IsNot, ast.Call, ast.Name, ast.Attribute,
    ast.Load, ast.Constant, ast.List, ast.Tuple,
)  # fmt: skip
_GRAMMAR = (
    "use names of fields (dots reach into nested ones), constants, lists, comparisons, in, and, or, not, "
    f"{', '.join(f'{name}(…)' for name in _FUNCTIONS)}"
)

STATISTICS = {
    "characters": "characters of the text",
    "bytes": "bytes of the text in UTF-8",
    "lines": "lines with a character other than white space",
    "words": "words: runs of letters and digits; in Chinese and Japanese, characters",
    "mean_word": "mean characters of a word",
    "longest_word": "characters of the longest run without white space",
    "mean_line": "mean characters of a line",
    "longest_line": "characters of the longest line",
    "letters": "share of the characters that are letters",
    "digits": "share of the characters that are digits",
    "capitals": "share of the letters that are capitals",
    "spaces": "share of the characters that are white space",
    "symbols": "share of the characters that are neither letters, digits nor white space",
    "different_words": "share of the words that occur for the first time",
    "repeated_lines": "share of the lines that occurred before",
    "ended_lines": "share of the lines that end with a mark that ends a sentence",
    "language": "code of the language, by py3langid",
    "confidence": "probability of that language, 0 to 1",
}
"""Names in `filters.where` → their meanings; shares are numbers from 0 to 1."""
Rule = Literal["gopher", "gopher_repetition", "c4", "fineweb"]
GOPHER_STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")


class Filter:
    """An expression over a document's fields, e.g. `meta.set != "GitHub" and len(text) >= 200`.

    The syntax is a subset of Python expressions without side effects. A missing field is None.
    """

    def __init__(self, expression: str) -> None:
        """Parse an expression.

        Raises:
            ValueError: the text is not an expression, or uses syntax that is not allowed.
        """
        if len(expression) > _LONGEST:
            raise ValueError(f"{shown(expression)} has {len(expression)} characters; at most {_LONGEST} are possible")
        variables = _Variables()
        try:
            with warnings.catch_warnings(action="ignore"):  # of Python's about style, e.g. `is` before a text
                tree = ast.parse(expression.strip(), mode="eval")
                _refuse_other_syntax(tree, expression)
                self._code = compile(ast.fix_missing_locations(variables.visit(tree)), "where", "eval")
        except (RecursionError, MemoryError):  # Python's parser has a stack of its own
            raise ValueError(f"{shown(expression)} is nested too deeply; {_GRAMMAR}") from None
        except (SyntaxError, UnicodeEncodeError) as error:
            raise ValueError(f"{shown(expression)} is no expression ({error}); {_GRAMMAR}") from error
        self._names = variables.names

    @property
    def fields(self) -> frozenset[str]:
        """The fields that the expression uses."""
        return frozenset(self._names)

    def keeps(self, value_of: Callable[[str], Any]) -> bool:
        """Whether to keep a document.

        Args:
            value_of: returns the value of a field; None if the document does not have the field.

        Raises:
            ValueError: evaluation fails for these values, e.g. when a number is compared with None.
        """
        values = {variable: value_of(field) for field, variable in self._names.items()}
        try:
            # The code contains only nodes in `_ALLOWED`.
            return bool(eval(self._code, {"__builtins__": {}, **_FUNCTIONS}, values))  # noqa: S307  # see above
        except (TypeError, ValueError) as error:
            raise ValueError(f"`where` has no value here: {error}") from error


def _refuse_other_syntax(tree: ast.AST, expression: str) -> None:
    for node in ast.walk(tree):
        known = not isinstance(node, ast.Call) or (
            getattr(node.func, "id", None) in _FUNCTIONS and len(node.args) == 1 and not node.keywords
        )
        dotted = not isinstance(node, ast.Attribute) or isinstance(node.value, ast.Name | ast.Attribute)
        if not (isinstance(node, _ALLOWED) and dotted and known):
            raise ValueError(f"{shown(expression)}: {shown(ast.unparse(node))} does not belong there; {_GRAMMAR}")


class _Variables(ast.NodeTransformer):
    """Replaces each field, including dotted ones, with a plain variable."""

    def __init__(self) -> None:
        self.names: dict[str, str] = {}
        """Field → variable."""

    def visit_Call(self, node: ast.Call) -> ast.Call:  # the base class names it
        node.args = [self.visit(argument) for argument in node.args]
        return node

    def visit_Name(self, node: ast.Name) -> ast.Name:
        return self._variable(node.id)

    def visit_Attribute(self, node: ast.Attribute) -> ast.Name:
        return self._variable(ast.unparse(node))

    def _variable(self, field: str) -> ast.Name:
        return ast.Name(self.names.setdefault(field, f"field{len(self.names)}"), ast.Load())


class Filters(Section):
    """What a document needs to be in the corpus; each is checked on the whole document, before `limit` and `cut`."""

    min_characters: PositiveCount | None = None
    """Least number of characters."""
    max_characters: PositiveCount | None = None
    """Largest number of characters."""
    languages: list[str] = Field(default=[])
    """Codes of languages to keep (`en`, `zh`), as py3langid names them; an empty list keeps all."""
    confidence: Share = Fraction(1, 2)
    """Percentage that the probability of the language reaches at least; only with `languages`."""
    rules: list[Rule] = Field(default=[])
    """Published sets of rules, applied in order, as datatrove implements them. `c4` also removes lines."""
    stop_words: list[str] = Field(default=list(GOPHER_STOP_WORDS))
    """Words of which `gopher` asks for two; an empty list skips that rule, as languages other than English need."""
    where: str | None = None
    """Expression over statistics of the text that selects documents: `words >= 50 and letters > 0.6`."""

    @field_validator("where")
    @classmethod
    def _names_statistics(cls, where: str | None) -> str | None:
        for name in sorted(Filter(where).fields) if where is not None else ():
            if name not in STATISTICS:
                hint = did_you_mean(name, STATISTICS)
                raise ValueError(f"{shown(name)} is no statistic{hint}; there are {', '.join(STATISTICS)}")
        return where

    @model_validator(mode="after")
    def _keys_have_an_effect(self) -> Filters:
        least, most = self.min_characters, self.max_characters
        if least is not None and most is not None and least > most:
            raise WrongKey(f"must be at least min_characters ({least})", "max_characters")
        if self.confidence != Filters.model_fields["confidence"].default and not self.languages:
            raise WrongKey("has an effect only with languages; add them, or remove this key", "confidence")
        if self.stop_words != list(GOPHER_STOP_WORDS) and "gopher" not in self.rules:
            raise WrongKey("has an effect only with the rules gopher; add them, or remove this key", "stop_words")
        return self

    @property
    def identifies_languages(self) -> bool:
        """Whether the language of each document has to be known."""
        used = Filter(self.where).fields if self.where is not None else frozenset[str]()
        return bool(self.languages) or not used.isdisjoint({"language", "confidence"})


class Deduplication(Section):
    """How copies of documents are found; the first copy is kept, by the order of corpora and documents."""

    method: Literal["exact", "minhash"]
    """What copies are: documents of the same text, or of nearly the same runs of words, by MinHash (Broder 1997)."""
    across: Flag = True
    """Whether documents of the corpora before this one, which have the same method, count as well."""
    ngram: Annotated[PositiveCount, Field(le=100)] = 5
    """Number of words in a run; only with `minhash`."""
    bands: Annotated[PositiveCount, Field(le=1000)] = 14
    """Number of bands of hashes, of which two copies share at least one; only with `minhash`."""
    rows: Annotated[PositiveCount, Field(le=1000)] = 8
    """Number of hashes in a band; only with `minhash`. Two documents that share a part s of their runs are copies with
    probability 1 - (1 - s^rows)^bands."""

    @model_validator(mode="before")
    @classmethod
    def _method_alone(cls, value: object) -> object:
        return {"method": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _keys_have_an_effect(self) -> Deduplication:
        for key in ("ngram", "bands", "rows"):
            if self.method == "exact" and getattr(self, key) != type(self).model_fields[key].default:
                raise WrongKey("has an effect only with minhash; choose that method, or remove this key", key)
        return self

    def finds(self, s: float) -> float:
        """Probability that two documents whose runs of words have the Jaccard similarity `s` are copies."""
        return 1 - (1 - s**self.rows) ** self.bands if self.method == "minhash" else float(s == 1)
