"""How the tests themselves are built: what one test file shares with another is in a module of its own."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "tests").rglob("*.py"))


# An object that counts its calls, and no number
# objects, not numbers
REPLACED = {
    ("test_passwords.py", "_HASHER"),
    ("test_tracing.py", "_TRACER"),
    ("test_tracing.py", "_TRACER_PROVIDER"),
}


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", FILES, ids=_name)
def test_no_helper_is_imported_from_a_conftest_or_a_test_file(path: Path) -> None:
    """pytest imports both under names of its own: a second import makes a second module, whose fixtures run twice."""
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            parts = name.split(".")
            assert not [
                part for part in parts if part == "conftest" or (parts[0] == "tests" and part.startswith("test_"))
            ], f"{name}: move it into a module beside {path.name}"


@pytest.mark.parametrize("path", FILES, ids=_name)
def test_no_constant_is_patched(path: Path) -> None:
    """A number that a test must change is a parameter with the constant as its default: a patch of a name is lost when
    the name moves, and when a second module imports it."""
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("setattr"):
            for argument in node.args:
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                    name = argument.value.rpartition(".")[2]
                    assert not re.fullmatch(r"_?[A-Z][A-Z0-9_]+", name) or (path.name, name) in REPLACED, name
