"""What an error of the database means, and which locks there are, is said once: in db/outages.py and db/locks.py."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted((ROOT / "erp_service").rglob("*.py"))

OUTAGES = {
    "erp_service/db/outages.py",
    # the same for psycopg, which processes without a queue do not load
    "erp_service/queue/outages.py",
    # another question: of which errors a log may quote the message; what db logs goes through it, so it stands below db
    "erp_service/observability/exception_text.py",
}
LOCKS = {"erp_service/db/locks.py"}

ERRORS = {
    "ConnectionError",
    "DBAPIError",
    "DatabaseError",
    "InterfaceError",
    "InternalClientError",
    "InternalError",
    "OSError",
    "OperationalError",
    "PoolTimeout",
    "PostgresError",
    "SQLAlchemyError",
    "TimeoutError",
    "psycopg.Error",
}
# classes of https://www.postgresql.org/docs/current/errcodes-appendix.html that somebody might ask about
CLASSES = {"08", "22", "23", "25", "40", "42", "53", "54", "55", "57", "58", "F0", "XX"}
SQLSTATE = re.compile(f"({'|'.join(CLASSES)})[0-9A-Z]{{3}}")


def path_of(module: Path) -> str:
    return module.relative_to(ROOT).as_posix()


def parts(node: ast.AST) -> list[ast.expr]:
    """Of a tuple, list, set, union or call, what it is made of."""
    match node:
        case ast.Tuple(elts=elements) | ast.List(elts=elements) | ast.Set(elts=elements):
            return elements
        case ast.BinOp(op=ast.BitOr(), left=left, right=right):
            return [*(parts(left) or [left]), *(parts(right) or [right])]
        case ast.Call(args=arguments):
            return arguments
    return []


def is_error(node: ast.expr) -> bool:
    name = ast.unparse(node)
    return name in ERRORS or name.rpartition(".")[2] in ERRORS


def lists_of_errors(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if sum(is_error(part) for part in parts(node)) > 1:
            yield ast.unparse(node)


def sqlstates(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value=str(value)) if SQLSTATE.fullmatch(value) or value == "sqlstate":
                yield value
            case ast.Attribute(attr="sqlstate"):
                yield ast.unparse(node)
        if sum(isinstance(part, ast.Constant) and part.value in CLASSES for part in parts(node)) > 1:
            yield ast.unparse(node)


def names(tree: ast.AST) -> set[str]:
    found = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    found |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    return found | {node.name for node in ast.walk(tree) if isinstance(node, ast.alias)}


@pytest.mark.parametrize("module", [m for m in MODULES if path_of(m) not in OUTAGES], ids=path_of)
def test_which_errors_mean_an_outage_is_said_once(module: Path) -> None:
    tree = ast.parse(module.read_text(), str(module))
    assert "InternalClientError" not in names(tree), "a list of errors that has it is one of db/outages.py"
    assert list(lists_of_errors(tree)) == [], "use a name of db/outages.py"
    assert list(sqlstates(tree)) == [], "use a name of db/outages.py"


@pytest.mark.parametrize("module", [m for m in MODULES if path_of(m) not in LOCKS], ids=path_of)
def test_locks_are_named_once(module: Path) -> None:
    assert "advisory" not in module.read_text().lower(), "use a lock of db/locks.py"


@pytest.mark.parametrize(
    "code",
    [
        "try: ...\nexcept (SQLAlchemyError, OSError): ...",
        "try: ...\nexcept (asyncpg.PostgresError, asyncpg.InterfaceError): ...",
        "AWAY = (OSError, TimeoutError)",
        "with suppress(OSError, psycopg.Error): ...",
        "isinstance(exc, PoolTimeout | ConnectionError | ValueError)",
    ],
)
def test_a_list_of_errors_is_found(code: str) -> None:
    assert list(lists_of_errors(ast.parse(code)))


@pytest.mark.parametrize(
    "code",
    [
        "state == '57014'",
        "state[:2] in ('08', '53')",
        "exc.sqlstate",
        "getattr(exc, 'sqlstate', None)",
        "x = {'25P03'}",
    ],
)
def test_an_sqlstate_is_found(code: str) -> None:
    assert list(sqlstates(ast.parse(code)))
