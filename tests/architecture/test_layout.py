"""The house seen from outside: what lies in the root, and how large rooms and files may become."""

import ast
from collections import Counter
from pathlib import Path
from statistics import median

import pytest

from tests.architecture.source import MODULES, PACKAGE, short_name, tree_of

ROOT_MODULES = {
    "__init__",
    "__main__",
    "app",
    "cli",
    "client",
    "client_http",
    "decimals",
    "errors",
    "features",
    "formulas",
    "problems",
    "services",
    "settings",
    "texts",
    "timestamps",
    "validation",
    "worker",
    "worker_services",
}
"""What starts and composes, and what everything is made of. All else has a room."""

LONGEST_FILE = 300
LONGEST_FUNCTION = 60
MOST_IN_A_FOLDER = 15

CODE = [path for path in MODULES if path.name != "__init__.py"]


def lines(path: Path) -> int:
    return len(path.read_text().splitlines())


def test_the_root_holds_what_starts_and_composes_and_nothing_else() -> None:
    assert {path.stem for path in MODULES if path.parent == PACKAGE} == ROOT_MODULES


def test_no_folder_is_a_heap() -> None:
    sizes = Counter(path.parent for path in CODE if path.parent != PACKAGE)
    assert {str(folder.relative_to(PACKAGE)): n for folder, n in sizes.items() if n > MOST_IN_A_FOLDER} == {}


@pytest.mark.parametrize("path", CODE, ids=short_name)
def test_files_can_be_read_at_one_sitting(path: Path) -> None:
    assert lines(path) <= LONGEST_FILE, "split it by noun"


def test_half_of_the_files_are_short() -> None:
    assert median(map(lines, CODE)) <= 120


@pytest.mark.parametrize("path", CODE, ids=short_name)
def test_functions_fit_on_a_screen(path: Path) -> None:
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            size = (node.end_lineno or 0) - node.lineno + 1
            assert size <= LONGEST_FUNCTION, f"{node.name} has {size} lines"


def test_a_feature_is_a_folder_with_its_declaration() -> None:
    """Who adds a folder of routes, tables or tasks and forgets to declare them is told here."""
    declared = {path.parent for path in CODE if path.name == "feature.py"}
    for path in CODE:
        folder = PACKAGE / path.relative_to(PACKAGE).parts[0]
        if path.stem in {"models", "routes", "tasks"} and folder.is_dir():
            assert folder in declared, f"{folder.name} has {path.name} and no feature.py"
