"""Who may import whom: a reader finds a thing where the design says it is, and nothing goes in circles.

Imports inside functions and by name count as well: they must not be a way around the order."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from erp_service.features import NAMES
from tests.architecture.source import (
    LOADERS,
    MODULES,
    OWN,
    PACKAGE,
    called,
    imported,
    is_route,
    module_name,
    names,
    parts,
    short_name,
    tree_of,
)

# Each line may import the lines above it, and its own neighbours. A dotted name stands for itself, any other for all
# that is in the folder.
ORDER = [
    ["errors", "db.servers.addresses", "decimals", "formulas", "settings", "texts"],
    ["timestamps", "validation"],
    ["problems", "observability", "access.key_format", "access.roles"],
    ["db"],
    ["access"],
    ["registry"],
    ["features"],
    *([name] for name in NAMES),
    ["services", "worker_services"],
    ["app"],
    ["processes"],
    ["standalone"],
    ["client_http"],
    ["client"],
    ["commands"],
    ["cli", "worker", "__main__"],
]
RANK = {name: rank for rank, members in enumerate(ORDER) for name in members}

# A client runs without the service's libraries, so it takes nothing of the service.
CLIENT = {"client", "client_http"}

# Inside a feature: each line may import the lines above it. Modules with other names are what these are made of.
INSIDE = [
    ["problems"],
    ["models"],
    ["schemas"],
    ["queries"],
    ["ledger", "lifecycle", "record"],  # the one writer of a feature's rows
    ["service"],
    ["tasks", "routes"],
    ["feature"],
]
INSIDE_RANK = {name: rank for rank, members in enumerate(INSIDE) for name in members}

# What stands between a route and the wire: a middleware, a form, a stream. All else knows no web framework.
WIRE = {"auth.bearer", "auth.login_form", "app", "processes.api", "processes.http_protocol"}

# The only modules that may load a module by name, and what.
REGISTRIES = {
    "cli": "each command, when it is called",
    "features": "each feature, so that it imports none",
    "registry.feature": "the parts of features, by kind",
    "exports.storage.registry": "the object store, whose library is optional",
    "exports.formats.parquet": "pyarrow, which is optional and large",
    "observability.tracing": "the SDK of OpenTelemetry, which is optional",
}


def rank_of(name: str) -> int | None:
    """By the longest prefix that ORDER has."""
    words = name.removeprefix(OWN).split(".")
    for length in range(len(words), 0, -1):
        if (rank := RANK.get(".".join(words[:length]))) is not None:
            return rank
    return None


def own_imports(path: Path) -> Iterator[str]:
    for name in imported(tree_of(path)):
        if name.startswith(OWN):
            yield name


def kind(path: Path) -> str:
    if is_route(path):
        return "routes"
    return next((word for word in INSIDE_RANK if re.fullmatch(rf"(\w+_)?{word}", path.stem)), path.stem)


@pytest.mark.parametrize("path", [p for p in MODULES if p.name != "__init__.py"], ids=short_name)
def test_imports_follow_the_order(path: Path) -> None:
    mine = rank_of(module_name(path))
    assert mine is not None, f"say in ORDER where {short_name(path)} stands"
    for name in own_imports(path):
        theirs = rank_of(name)
        assert theirs is not None, f"{short_name(path)} imports {name}, which stands nowhere in ORDER"
        assert theirs <= mine, f"{short_name(path)} may not import {name}"


@pytest.mark.parametrize("path", [p for p in MODULES if p.name != "__init__.py"], ids=short_name)
def test_inside_a_feature_models_come_first_and_routes_last(path: Path) -> None:
    mine = INSIDE_RANK.get(kind(path))
    feature = short_name(path).partition(".")[0]
    for name in own_imports(path):
        there = PACKAGE.joinpath(*name.removeprefix(OWN).split(".")).with_suffix(".py")
        theirs = INSIDE_RANK.get(kind(there))
        if name.removeprefix(OWN).partition(".")[0] != feature or theirs is None or not there.exists():
            continue
        if mine is None:
            assert kind(there) not in ("routes", "tasks", "feature"), f"{short_name(path)} may not import {name}"
        else:
            assert theirs <= mine, f"{short_name(path)} may not import {name}"


def test_no_module_imports_itself_by_a_detour() -> None:
    """What is loaded while the modules are: imports at the top."""
    graph = {
        module_name(path): {n for n in imported(ast.Module(tree_of(path).body, [])) if n in names()} for path in MODULES
    }
    done: set[str] = set()

    def walk(name: str, trail: list[str]) -> None:
        assert name not in trail, " -> ".join([*trail[trail.index(name) :], name])
        if name not in done:
            for following in sorted(graph[name]):
                walk(following, [*trail, name])
            done.add(name)

    for name in graph:
        walk(name, [])


@pytest.mark.parametrize(
    "path", [p for p in MODULES if p.name == "feature.py" and p.parent.name != "registry"], ids=short_name
)
def test_a_feature_names_only_parts_of_its_own(path: Path) -> None:
    own = module_name(path).removesuffix("feature")
    assert [name for name in parts(path) if not name.startswith(own)] == []
    # whoever reads the list of features loads no more than their names, and who may read their events
    reads = {"erp_service.registry.feature", "erp_service.access.roles", "erp_service.access.scopes"}
    assert set(own_imports(path)) <= reads


@pytest.mark.parametrize("name", sorted(CLIENT))
def test_the_client_takes_nothing_of_the_service(name: str) -> None:
    assert {n.removeprefix(OWN) for n in own_imports(PACKAGE / f"{name}.py")} <= CLIENT


@pytest.mark.parametrize("path", MODULES, ids=short_name)
def test_nothing_is_imported_inside_a_function_or_by_name(path: Path) -> None:
    assert "TYPE_CHECKING" not in path.read_text(), "annotations are read at run time"
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            inside = [n for n in ast.walk(node) if isinstance(n, ast.Import | ast.ImportFrom)]
            assert not inside, f"{node.name} imports"
        if isinstance(node, ast.Call) and called(node) in LOADERS | {"__import__"}:
            assert short_name(path) in REGISTRIES, f"{ast.unparse(node)}: not one of REGISTRIES"


@pytest.mark.parametrize("name", sorted(REGISTRIES))
def test_each_registry_loads_something(name: str) -> None:
    tree = tree_of(PACKAGE.joinpath(*name.split(".")).with_suffix(".py"))
    assert any(isinstance(node, ast.Call) and called(node) in LOADERS for node in ast.walk(tree))


@pytest.mark.parametrize("path", [p for p in MODULES if p.name == "__init__.py"], ids=module_name)
def test_packages_hold_no_code(path: Path) -> None:
    assert path.read_text() == ""


@pytest.mark.parametrize("path", [p for p in MODULES if is_route(p) and p.name != "__init__.py"], ids=short_name)
def test_routes_write_no_sql_and_answer_with_the_response_class_of_all(path: Path) -> None:
    libraries = {name.partition(".")[0] for name in imported(tree_of(path))}
    assert libraries & {"sqlalchemy", "asyncpg", "psycopg"} == set()
    # a plain Response keeps nothing for the Idempotency-Key
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("litestar"):
            assert "Response" not in {alias.name for alias in node.names}


def knows_the_wire(path: Path) -> bool:
    is_handler = is_route(path) or short_name(path) in {"operations.health", "operations.metrics"}
    return is_handler or short_name(path) in WIRE or short_name(path).startswith("web.")


@pytest.mark.parametrize("path", [p for p in MODULES if not knows_the_wire(p)], ids=short_name)
def test_only_routes_know_the_web_framework(path: Path) -> None:
    assert not [n for n in imported(tree_of(path)) if n.partition(".")[0] in {"litestar", "uvicorn"}]


def test_only_the_worker_reads_settings_when_imported() -> None:
    readers = []
    for path in MODULES:
        for node in tree_of(path).body:
            outside = isinstance(node, ast.Assign | ast.AnnAssign | ast.Expr)
            if outside and re.search(r"\bload\(\)", ast.unparse(node)):
                readers.append(short_name(path))
    assert readers == ["worker"]
