"""How the tests themselves are built: what one test file shares with another is in a module of its own."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "tests").rglob("*.py"))


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
