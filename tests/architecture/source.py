"""The source of erp_service as the architecture tests look at it: modules, what each imports, also by name."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "erp_service"
MODULES = sorted(PACKAGE.rglob("*.py"))
OWN = "erp_service."

LOADERS = {"import_module", "resolve_name"}
"""The functions that import a module by its name."""


def module_name(path: Path) -> str:
    """`erp_service.exports.run.attempt`"""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def short_name(path: Path) -> str:
    """`exports.run.attempt`"""
    return module_name(path).removeprefix(OWN)


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


@cache
def names() -> frozenset[str]:
    return frozenset(module_name(path) for path in MODULES)


def imported(tree: ast.AST) -> Iterator[str]:
    """Every module that is imported, wherever in the code, and those that are loaded by a name that is written down."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, "relative imports hide where a thing comes from"
            for alias in node.names:
                both = f"{node.module}.{alias.name}"
                yield both if both in names() or node.module == "erp_service" else node.module
        elif isinstance(node, ast.Call) and called(node) in LOADERS and node.args:
            yield from named(node.args[0])


def called(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def named(argument: ast.expr) -> Iterator[str]:
    """The module that a loader's argument names, up to what is filled in."""
    if isinstance(argument, ast.JoinedStr) and argument.values:
        argument = argument.values[0]
    if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
        yield argument.value.partition(":")[0].rstrip(".")


def parts(path: Path) -> list[str]:
    """The modules that a `feature.py` names."""
    words = [node.value for node in ast.walk(tree_of(path)) if isinstance(node, ast.Constant)]
    return [word.partition(":")[0] for word in words if isinstance(word, str) and re.match(r"erp_service\.", word)]


def is_route(path: Path) -> bool:
    return path.stem.endswith("routes") or path.parent.name == "routes"
