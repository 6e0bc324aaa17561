"""The actions that the code writes into the audit log, found in its syntax trees.

`record(db, who, action, ...)` and `entry_parameters(who, action, ...)` are called with a constant, with an f-string
over a parameter that is a Literal, or with a parameter of the calling function: then the calls of that function say
what it is."""

import ast
import importlib
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, get_args, get_type_hints

import erp_service

RECORD = "erp_service.audit.record"
WRITERS = {"record": 2, "entry_parameters": 1}
"""The functions of that module, with the position of the action in their arguments."""
PACKAGE = Path(erp_service.__file__).parent

_Function = ast.FunctionDef | ast.AsyncFunctionDef


class Written(NamedTuple):
    """`where` is the file and the line of the call that names the action."""

    action: str
    where: str


def written_actions() -> Iterator[Written]:
    """Raises AssertionError for a call whose action cannot be found out."""
    for path in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(path.read_text(), str(path))
        if _imports_record(tree, path):
            for name, position in WRITERS.items():
                yield from _Module(path, tree).calls_of(name, position=position, keyword="action")


def _imports_record(tree: ast.Module, path: Path) -> bool:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            assert RECORD not in [alias.name for alias in node.names], f"{path}: import the function `record` by name"
        elif isinstance(node, ast.ImportFrom):
            names = [alias.name for alias in node.names]
            assert node.module != "erp_service.audit" or "record" not in names, f"{path}: import the function"
            if node.module == RECORD:
                assert [alias.asname for alias in node.names] == [None] * len(names), f"{path}: no alias"
                return not WRITERS.keys().isdisjoint(names)
    return False


class _Module:
    def __init__(self, path: Path, tree: ast.Module) -> None:
        self._path = path
        self._functions = [node for node in ast.walk(tree) if isinstance(node, _Function)]

    def calls_of(self, name: str, *, position: int, keyword: str) -> Iterator[Written]:
        """What is passed as one argument by all calls of a function in this module."""
        for function in self._functions:
            for node in ast.walk(function):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name:
                    given = {argument.arg: argument.value for argument in node.keywords}
                    value = node.args[position] if len(node.args) > position else given[keyword]
                    yield from self._values(function, value)

    def _values(self, function: _Function, value: ast.expr) -> Iterator[Written]:
        where = f"{self._path.relative_to(PACKAGE.parent)}:{value.lineno}"
        match value:
            case ast.Constant(value=str(action)):
                yield Written(action, where)
            case ast.IfExp():
                yield from self._values(function, value.body)
                yield from self._values(function, value.orelse)
            case ast.JoinedStr():
                parts = [self._parts(function, part, where) for part in value.values]
                for chosen in itertools.product(*parts):
                    yield Written("".join(chosen), where)
            case ast.Name(id=name) if name in (parameters := [argument.arg for argument in function.args.args]):
                found = list(self.calls_of(function.name, position=parameters.index(name), keyword=name))
                assert found, f"{where}: nothing in this module calls {function.name}, so `{name}` may be any action"
                yield from found
            case _:
                raise AssertionError(f"{where}: no constant, no f-string over a Literal: {ast.unparse(value)}")

    def _parts(self, function: _Function, part: ast.expr, where: str) -> list[str]:
        """The texts that one part of an f-string can be."""
        match part:
            case ast.Constant(value=str(text)):
                return [text]
            case ast.FormattedValue(value=ast.Name(id=name)):
                choices = [choice for choice in get_args(self._hints(function)[name]) if isinstance(choice, str)]
                assert choices, f"{where}: `{name}` is no Literal, so it may be any text"
                return choices
            case _:
                raise AssertionError(f"{where}: {ast.unparse(part)} may be any text")

    def _hints(self, function: _Function) -> dict[str, Any]:
        name = ".".join(self._path.relative_to(PACKAGE.parent).with_suffix("").parts)
        return get_type_hints(getattr(importlib.import_module(name), function.name))
