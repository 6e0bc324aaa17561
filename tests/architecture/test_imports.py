"""Who may import whom: a reader finds a thing where the design says it is, and nothing goes in circles."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "erp_service"
MODULES = sorted(PACKAGE.rglob("*.py"))

# Each line may import the lines above it, and its own neighbours.
ORDER = [
    ["processes"],
    ["settings", "errors", "numbers", "roles", "embedded", "embedded_directory", "supervise"],
    ["connections", "db", "replica", "bodies", "telemetry", "tracing", "notices"],
    ["problems", "paging", "instants", "principals"],
    ["routing", "page_parameters", "problem_answers"],
    ["idempotency", "idempotency_models", "ratelimit", "queue"],
    ["audit"],
    ["auth"],
    ["inventory"],
    ["reports"],
    ["exports"],
    ["tables", "verify", "demo"],
    ["revisions", "schema"],
    ["health", "metrics", "documents"],
    ["app", "client", "client_connection"],
    ["serving", "working", "up"],
    ["terminal"],
    ["commands"],
    ["cli", "worker", "__main__"],
]
RANK = {name: rank for rank, names in enumerate(ORDER) for name in names}

# What stands between a route and the wire: a middleware, a form, a stream. All else knows no web framework.
WEB = {"bearer", "forms", "download"}

# The only modules that may import inside a function or by name: one registry each for what is optional.
REGISTRIES = {"tracing", "embedded_directory"}


def part(name: str) -> str:
    return name.removeprefix("erp_service.").split(".")[0]


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, "relative imports hide where a thing comes from"
            yield from (
                [f"{node.module}.{a.name}" for a in node.names] if node.module == "erp_service" else [node.module]
            )


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_imports_follow_the_order(path: Path) -> None:
    mine = part(module_name(path))
    if mine == "__init__":
        return
    assert mine in RANK, f"say in ORDER where {mine} stands"
    for name in imported(tree_of(path)):
        if name.startswith("erp_service.") and (theirs := part(name)) != mine:
            assert RANK[theirs] <= RANK[mine], f"{module_name(path)} may not import {name}"


@pytest.mark.parametrize("path", [p for p in MODULES if p.parent != PACKAGE], ids=module_name)
def test_inside_a_feature_models_come_first_and_routes_last(path: Path) -> None:
    for name in imported(tree_of(path)):
        if name.startswith("erp_service.") and part(name) == part(module_name(path)):
            stem = name.rpartition(".")[2]
            if path.stem.endswith("models"):
                assert stem.endswith(("models", "refusals")), f"models may not import {name}"
            if stem.endswith("routes"):
                assert path.stem.endswith("routes"), f"{path.stem} may not import {name}"


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_nothing_is_imported_inside_a_function(path: Path) -> None:
    if path.stem in REGISTRIES:
        return
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert not list(imported(node)), f"{node.name} imports"
    assert "TYPE_CHECKING" not in path.read_text(), "annotations are read at run time"


@pytest.mark.parametrize("path", [p for p in MODULES if p.name == "__init__.py"], ids=module_name)
def test_packages_hold_no_code(path: Path) -> None:
    assert path.read_text() == ""


@pytest.mark.parametrize("path", [p for p in MODULES if p.stem.endswith("routes")], ids=module_name)
def test_routes_write_no_sql_and_answer_with_answer(path: Path) -> None:
    names = set(imported(tree_of(path)))
    assert not {n for n in names if n.split(".")[0] in {"sqlalchemy", "asyncpg", "psycopg"}}
    # a plain Response keeps nothing for the Idempotency-Key
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("litestar"):
            assert "Response" not in {alias.name for alias in node.names}


@pytest.mark.parametrize(
    "path",
    [p for p in MODULES if p.parent != PACKAGE and not p.stem.endswith("routes") and p.stem not in WEB],
    ids=module_name,
)
def test_only_routes_know_the_web_framework(path: Path) -> None:
    assert not [n for n in imported(tree_of(path)) if n.split(".")[0] == "litestar"]


def test_only_the_worker_reads_settings_when_imported() -> None:
    readers = []
    for path in MODULES:
        for node in tree_of(path).body:
            outside = isinstance(node, ast.Assign | ast.AnnAssign | ast.Expr)
            if outside and re.search(r"\bload\(\)", ast.unparse(node)):
                readers.append(path.stem)
    assert readers == ["worker"]
