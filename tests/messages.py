"""The messages of the package, collected from its source.

A message is the text of an exception, of a record that holds a fault, of a warning, or of what is written to stderr.
It is spelled as in the code, with `…` for each value in it. Parts that a variable, a function of the package or a
caller in the same file gives are found where they are spelled. tests/troubleshooting.py compares the messages with
docs/troubleshooting.md.
"""

from __future__ import annotations

import ast
import builtins
import re
from functools import cache
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeGuard

import tinyllama

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PACKAGE = Path(tinyllama.__file__).parent
VALUE = "…"
INTERNAL = {"AssertionError", "AttributeError", "NotImplementedError", "StopIteration"}
"""Exceptions that only a fault in our own code raises, or that Python's protocols ask for."""
SELF_MADE = {"NewerFormatError"}
"""Exceptions that make their text themselves."""
REPORTED: dict[str, set[int]] = {
    "Check": {1}, "Fault": {1}, "Finding": {0, 1}, "MissingTask": {0}, "RawText": {3}, "Record": {2}, "Rejected": {1},
    "_differs": {1}, "_fail": {0}, "differs": {1}, "needed_by": {1},
}  # fmt: skip
"""Records and functions, no exceptions, that take the text of a fault, and where it is among their arguments."""
SPELLERS = {"_explain"}
"""Functions whose texts are messages, though no expression shows how they get into one."""
CARRIERS = {"problem"}
"""Arguments that are the text of a fault, whatever takes them; and attributes that hold such a text."""
FORWARDED = {
    "design/new.py: RecipeError('\\n'.join(lines))",
    "evaluation/jail.py: sys.stderr.write(f'{what}: {os.strerror(number)}\\n')",
    "family/import_model.py: ModelError('\\n'.join(mismatches))",
    "family/prepare.py: SourceError('; '.join((f'{name}: {reason}' for name, reason in self.missing.items())))",
    "family/prepare.py: SourceError(f\"{model} needs {', '.join(lacking)}: {self.missing[lacking[0]]}\")",
    "family/preflight/findings.py: PreflightError('\\n'.join(faults))",
    "family/preflight/situation.py: Finding(text, is_fault=phase in self.phases)",
    "family/preflight/text_checks.py: Finding(_named(name, situation.missing[name]))",
    "family/preflight/text_checks.py: Finding(text.replace('which is less than', 'which is probably less than'), is_fault=False)",  # noqa: E501  # as it is called
    "recipe/faults.py: Fault(key, f\"{_dotted(key)}: {'; '.join(dict.fromkeys(found))}\")",
    "recipe/loading.py: RecipeError('\\n'.join(lines))",
    "studio/jobs.py: UserError(value)",
    "sources/files.py: Rejected(_origin(path, self._root), reason, '', 'skipped')",
    "evaluation/hub_sets.py: UnavailableError(self._silence)",
    "family/preflight/evaluation_checks.py: Finding(text, is_fault=False)",
    "family/preflight/evaluation_checks.py: Finding(f'evaluation.tasks: {gap}', is_fault=False)",
    "hub.py: _NoAnswerError(done.stderr.strip().rpartition('\\n')[2], is_silent=done.returncode != _REFUSED)",
}
"""Calls that pass on a text which is collected where it is made, or which another program wrote.

Texts of caught exceptions and of `CARRIERS` need not be here.
"""
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_WORD = re.compile(r"[^\W\d_]{2,}\S*(?=\s|$)")
_ARGUMENT = re.compile(r"%(?:\.\d+)?[sdrf]")
"""A value in the text of a log record."""


class Message(NamedTuple):
    """A text that a user may see."""

    place: str
    """File and line, e.g. `recipe/schema.py:157`."""
    text: str
    source: str
    """File and call."""

    @property
    def has_words(self) -> bool:
        """Whether the text says anything; else its words are in a value."""
        return len(_WORD.findall(self.text)) > 1


@cache
def messages() -> tuple[Message, ...]:
    """Every message of the package, in the order of files and lines, each text once."""
    first: dict[str, Message] = {}
    for message in found_messages():
        if message.has_words or message.source not in FORWARDED:
            first.setdefault(message.text if message.has_words else message.source, message)
    return tuple(first.values())


@cache
def same_message() -> dict[str, str]:
    """Place → the first place that may spell one of its texts."""
    first: dict[str, str] = {}
    same: dict[str, str] = {}
    for message in found_messages():
        place = first.setdefault(message.text, message.place)
        if message.has_words and place != message.place:
            same[message.place] = same.get(place, place)
    return same


@cache
def found_messages() -> list[Message]:
    """Every message, those that pass on a text included, each time that it is made."""
    return [message for path in sorted(PACKAGE.rglob("*.py")) for message in _module(path).messages()]


class Module:
    """One file, and the texts of its expressions."""

    def __init__(self, name: str, text: str) -> None:
        """Parse the file.

        Args:
            name: what places call the file.
            text: its content.
        """
        self.name = name
        self.tree = ast.parse(text)
        self.functions = {node.name: node for node in ast.walk(self.tree) if isinstance(node, _FUNCTIONS)}
        self.classes = [node for node in ast.walk(self.tree) if isinstance(node, ast.ClassDef)]
        self._scopes = dict(_scopes(self.tree, self.tree))
        self._calls = [node for node in self._scopes if isinstance(node, ast.Call)]
        self._imported = {
            alias.asname or alias.name: node.module
            for node in ast.walk(self.tree)
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("tinyllama.")
            for alias in node.names
        }

    def messages(self) -> Iterator[Message]:
        """Every message that the file makes; one without words if the file does not show what it says."""
        here = _makers() & self.functions.keys()  # these find the words that their callers give
        for call in self._calls:
            if isinstance(call.func, ast.Name) and call.func.id in here:
                continue
            told = [each for each in _told(call, self._scopes[call]) if not self._is_no_text(each)]
            found = [self._message(each, text, call) for each in told for text in self.texts(each)]
            if with_words := [message for message in found if message.has_words]:
                yield from with_words
            elif found and not self._is_forwarded(call):
                yield found[0]
        for name in SPELLERS & self.functions.keys():
            spelled = [each for each in _given(self.functions[name]) if each is not None]
            found = [self._message(each, text, each) for each in spelled for text in self.texts(each)]
            yield from (message for message in found if message.has_words)

    def _message(self, node: ast.AST, text: str, source: ast.AST) -> Message:
        return Message(f"{self.name}:{getattr(node, 'lineno', 0)}", _tidy(text), f"{self.name}: {ast.unparse(source)}")

    def _is_no_text(self, node: ast.expr) -> bool:
        """Whether an argument is a number or a function."""
        if isinstance(node, ast.Constant):
            return not isinstance(node.value, str)
        name = node.id if isinstance(node, ast.Name) else ""
        return name in self.functions or (name in self._imported and name in _imported(self._imported[name]).functions)

    def _is_forwarded(self, call: ast.Call) -> bool:
        """Whether the text of a call is that of an exception or another record, or is made elsewhere."""
        scope = self._scopes[call]
        caught = {node.name for node in ast.walk(scope) if isinstance(node, ast.ExceptHandler)}
        parts = [*ast.walk(call)]
        names = {part.id for part in parts if isinstance(part, ast.Name)}
        held = [value.func for name in names for value in self._assigned(name, scope) if isinstance(value, ast.Call)]
        return (
            bool(names & caught)
            or any(isinstance(function, ast.Name) and function.id in _exceptions() for function in held)
            or any(isinstance(part, ast.Attribute) and part.attr in CARRIERS for part in parts)
            or (_is_function(scope) and scope.name in _makers())
            or (isinstance(call.func, ast.Name) and call.func.id in _makers())
        )

    def texts(self, node: ast.AST | None, around: frozenset[ast.AST] = frozenset()) -> list[str]:
        """The texts that an expression of this file may have; a value is `…`.

        Args:
            node: the expression.
            around: the expressions whose part it is, which end a circle of names.
        """
        if node is None or node in around:
            return [VALUE]
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            return [node.value]
        around |= {node}
        if parts := _parts(node):
            return ["".join(texts) for texts in product(*(self.texts(part, around) for part in parts))]
        module, choices = self._choices(node)
        return list(dict.fromkeys(text for each in choices for text in module.texts(each, around))) or [VALUE]

    def _choices(self, node: ast.AST) -> tuple[Module, Sequence[ast.AST | None]]:
        """The expressions whose texts an expression has, and the file that holds them."""
        choices: Sequence[ast.AST | None] = ()
        match node:
            case ast.IfExp(body=body, orelse=other):
                choices = [body, other]
            case ast.BoolOp(values=choices) | ast.List(elts=choices) | ast.Tuple(elts=choices):
                pass
            case ast.FormattedValue(value=inner) | ast.Starred(value=inner) | ast.YieldFrom(value=inner):
                choices = [inner]
            case ast.ListComp(elt=inner) | ast.GeneratorExp(elt=inner):
                choices = [inner]
            case ast.Call(func=ast.Attribute(value=ast.Constant(value=str()), attr="join"), args=[inner]):
                choices = [inner]
            case ast.Name(id=name):
                choices = self._held(name, self._scopes[node])
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(value=ast.Name(id="self"), attr=name)):
                module = _imported(self._imported[name]) if name in self._imported else self
                return module, [*_given(module.functions.get(name))]
        return self, choices

    def _held(self, name: str, scope: ast.AST) -> Sequence[ast.AST]:
        """What a name holds: what it is assigned, what callers in this file pass for it, or a constant of the file."""
        held = self._assigned(name, scope)
        parameters = [each.arg for each in scope.args.args if each.arg != "self"] if _is_function(scope) else []
        for call in self._calls if name in parameters else ():
            if scope is self.functions.get(getattr(call.func, "attr", getattr(call.func, "id", ""))):
                held += call.args[parameters.index(name) :][:1]
                held += [keyword.value for keyword in call.keywords if keyword.arg == name]
        return held or self._assigned(name, self.tree)

    def _assigned(self, name: str, scope: ast.AST) -> list[ast.AST]:
        """What a name is given in a function, or at the top of a module."""
        found: list[ast.AST] = []
        for node in scope.body if isinstance(scope, ast.Module) else ast.walk(scope):
            match node:
                case ast.Assign(targets=[ast.Name(id=target)], value=value) if target == name:
                    found.append(value)
                case ast.AnnAssign(target=ast.Name(id=target), value=ast.expr() as value) if target == name:
                    found.append(value)
                case ast.AugAssign(target=ast.Name(id=target), value=value) if target == name:
                    found.append(value)
                case ast.NamedExpr(target=ast.Name(id=target), value=value) if target == name:
                    found.append(value)
                case ast.Call(func=ast.Attribute(value=ast.Name(id=target), attr="append" | "extend"), args=[value]):
                    found += [value] if target == name else []
                case ast.For(target=ast.Tuple(elts=targets), iter=values):
                    names = [getattr(each, "id", None) for each in targets]
                    found += self._items(values, names.index(name)) if name in names else []
        return found

    def _items(self, values: ast.expr, index: int) -> Sequence[ast.AST]:
        """What stands at an index of the tuples in a tuple or list, of a dict's items, or that a function yields."""
        rows: Sequence[ast.AST | None] = ()
        match values:
            case ast.Tuple(elts=rows) | ast.List(elts=rows):
                pass
            case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr="items")):
                held = self._assigned(name, self._scopes[values])
                columns = [(value.keys, value.values)[index] for value in held if isinstance(value, ast.Dict)]
                return [each for column in columns for each in column if each is not None]
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(value=ast.Name(id="self"), attr=name)):
                rows = [*_given(self.functions.get(name))]
        return [row.elts[index] for row in rows if isinstance(row, ast.Tuple)]


@cache
def _module(path: Path) -> Module:
    return Module(path.relative_to(PACKAGE).as_posix(), path.read_text(encoding="utf-8"))


def _imported(name: str) -> Module:
    path = PACKAGE.parent / name.replace(".", "/")
    return _module(path / "__init__.py" if path.is_dir() else path.with_suffix(".py"))


def _parts(node: ast.AST) -> Sequence[ast.AST]:
    """The expressions whose texts an expression joins."""
    match node:
        case ast.JoinedStr(values=parts):
            return parts
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return [left, right]
    return ()


def _given(function: ast.AST | None) -> Iterator[ast.AST | None]:
    """What a function returns or yields."""
    for node in ast.walk(function) if function is not None else ():
        if isinstance(node, ast.Return | ast.Yield):
            yield node.value
        elif isinstance(node, ast.YieldFrom):
            yield node


def _tidy(text: str) -> str:
    """A text on one line, with one `…` for values that follow each other."""
    return re.sub(f"{VALUE}+", VALUE, " ".join(_ARGUMENT.sub(VALUE, text).split()))


def _scopes(node: ast.AST, scope: ast.AST) -> Iterator[tuple[ast.AST, ast.AST]]:
    """Every expression and statement, with the function around it."""
    for child in ast.iter_child_nodes(node):
        yield child, scope
        yield from _scopes(child, child if _is_function(child) else scope)


def _is_function(node: ast.AST) -> TypeGuard[ast.FunctionDef | ast.AsyncFunctionDef]:
    return isinstance(node, _FUNCTIONS)


def _told(call: ast.Call, scope: ast.AST) -> Iterator[ast.expr]:
    """The arguments of a call that a user may see as a message."""
    match call.func:
        case ast.Name(id=name) if name in (_exceptions() | _makers()) - SELF_MADE or name in _passed_exceptions(scope):
            yield from call.args
        case ast.Name(id=name) | ast.Attribute(attr=name) if name in REPORTED:
            if not any(word.arg == "passed" and ast.unparse(word.value) == "True" for word in call.keywords):
                yield from (each for index, each in enumerate(call.args) if index in REPORTED[name])
        case ast.Attribute(value=ast.Name(id="_log" | "warnings"), attr="warning" | "error" | "warn"):
            yield from call.args if ast.unparse(call.args[0]) == "'%s'" else call.args[:1]
        case ast.Attribute(value=ast.Attribute(attr="stderr"), attr="write"):
            yield call.args[0]
        case ast.Attribute(value=ast.Call(func=ast.Name(id="super")), attr="__init__"):
            yield from (each for each in call.args if isinstance(each, ast.JoinedStr))
    yield from (word.value for word in call.keywords if word.arg in CARRIERS)


@cache
def _exceptions() -> frozenset[str]:
    """The names of the exceptions that carry a message, Python's and ours."""
    found = {name for name, kind in vars(builtins).items() if isinstance(kind, type) and issubclass(kind, Exception)}
    nodes = [node for path in PACKAGE.rglob("*.py") for node in _module(path).classes]
    classes = [(node.name, {*map(ast.unparse, node.bases)}) for node in nodes]
    while more := {name for name, bases in classes if bases & found} - found:
        found |= more
    return frozenset(found - INTERNAL)


@cache
def _makers() -> frozenset[str]:
    """The names of our functions that return an exception, which may get its words from their callers."""
    functions = [each for path in PACKAGE.rglob("*.py") for each in _module(path).functions.values()]
    return frozenset(each.name for each in functions if each.returns and ast.unparse(each.returns) in _exceptions())


def _passed_exceptions(scope: ast.AST) -> set[str]:
    """Parameters of a function that are classes of exceptions."""
    if not _is_function(scope):
        return set()
    annotated = [each for each in scope.args.args + scope.args.kwonlyargs if each.annotation is not None]
    return {each.arg for each in annotated if "type[TinyLlamaError]" in ast.unparse(each.annotation or each)}
