"""What logs and messages say of an exception: the only place that renders one.

The texts of database errors hold what is stored and what was sent. Postgres quotes the row in `DETAIL` ("Key
(email)=(...) already exists", "Failing row contains (...)"), the line of a COPY in `CONTEXT`, and a value that it
cannot read in the message itself; asyncpg quotes an argument that it cannot encode; SQLAlchemy adds the parameters. So
of such an error only names are shown: its type, SQLSTATE, constraint, table and column, and a message whose quoted
values are left out. Tracebacks show no local variables.

This module imports no driver: it is loaded before it is known which of them a process needs."""

import re
import sys
import threading
import traceback
from collections.abc import Iterator
from types import TracebackType

from erp_service.access.key_format import without_keys

_DATABASE_PACKAGES = frozenset({"asyncpg", "psycopg", "psycopg_pool", "sqlalchemy"})

# The classes of SQLSTATE whose messages quote names only: connection, feature not supported, integrity, cursor and
# transaction state, authorization, catalogue names, rollback, syntax and access rights, resources, program limits,
# prerequisites, operator, system. Class 22, data exceptions, is about values.
_NAMES_ONLY = frozenset(
    {"08", "0A", "23", "24", "25", "26", "28", "2D", "3B", "3D", "3F", "40", "42", "53", "54", "55", "57", "58"}
)
_LONGEST_STATEMENT = 500  # characters
_LONGEST_CHAIN = 20  # exceptions

# greedy, since a value may contain the quotation mark that surrounds it
_QUOTED = re.compile(r"\".*\"|'.*'", re.DOTALL)
_LITERAL = re.compile(r"'(?:[^']|'')*'")
_LEFT_OUT = "(left out)"

# For texts into which a library has put an exception by itself. A value may hold anything, a line break too, so what
# follows one of these marks is left out to the end of the text.
_VALUES = re.compile(
    r"(?:\n|\\n|^)\s*(?:DETAIL|CONTEXT|HINT|STATEMENT):"
    r"|\bKey \(.*?\)=\(|\bFailing row contains \(|\[parameters: |\binvalid input (?:syntax|value) for |"
    r"\binvalid input for query argument |\bCOPY \w+, line \d+",
    re.DOTALL,
)

_CAUSE = "\nThe above exception was the direct cause of the following exception:\n\n"
_CONTEXT = "\nDuring handling of the above exception, another exception occurred:\n\n"


def described(exc: BaseException) -> str:
    """In one line: the type of the exception, and what it says, without any value of the database."""
    kind, text = type(exc).__qualname__, reason(exc)
    statement = getattr(exc, "statement", None) if _is_of_database(exc) else None
    if not isinstance(statement, str):
        return f"{kind}: {text}" if text else kind
    sql = f" [SQL: {_LITERAL.sub(_LEFT_OUT, ' '.join(statement.split()))[:_LONGEST_STATEMENT]}]"
    return f"{kind}: {text}{sql}"


def reason(exc: BaseException) -> str:
    """What the exception says, without its type and without any value of the database; empty if it says nothing."""
    if not _is_of_database(exc):
        return without_values(str(exc))
    error = _driver_error(exc)
    state = getattr(error, "sqlstate", None) or ""
    # of psycopg the message without DETAIL and CONTEXT is in `diag`, of asyncpg it is the first argument
    message = getattr(getattr(error, "diag", None), "message_primary", None) or (error.args[0] if error.args else "")
    message = str(message)
    if state and state[:2] not in _NAMES_ONLY:
        message = _QUOTED.sub(_LEFT_OUT, message)
    elif not state and (isinstance(error, ValueError) or hasattr(error, "statement")):
        # the driver cannot encode a parameter, and says which after the colon
        message = message.partition(":")[0]
    names = [
        f"{name} {value}"
        for name in ("constraint", "table", "column")
        if (value := _field(error, f"{name}_name")) and str(value) not in message
    ]
    facts = ", ".join([*([f"SQLSTATE {state}"] if state else []), *names])
    return without_values(message) + (f" ({facts})" if facts else "")


def traceback_text(exc: BaseException) -> str:
    """The traceback with all causes, as Python prints it, with each exception as `described`."""
    return "".join(_lines(exc, {id(exc)})).rstrip("\n")


def without_values(text: str) -> str:
    """The text up to the first value of the database that a library has put into it, with API keys masked."""
    text = without_keys(text)
    found = _VALUES.search(text)
    return text if found is None else f"{text[: found.start()].rstrip()} {_LEFT_OUT}".lstrip()


def print_uncaught() -> None:
    """Let this process print what nobody caught in this way too, in place of Python's own. A hook that the host of this
    process has set, such as a debugger, stays."""
    if sys.excepthook is sys.__excepthook__:
        sys.excepthook = _print
    if threading.excepthook is threading.__excepthook__:
        threading.excepthook = _print_of_thread


def _print(_kind: type[BaseException], exc: BaseException, _trace: TracebackType | None) -> None:
    sys.stderr.write(f"{traceback_text(exc)}\n")


def _print_of_thread(failure: threading.ExceptHookArgs) -> None:
    if failure.exc_value is not None and not isinstance(failure.exc_value, SystemExit):
        name = getattr(failure.thread, "name", None)
        sys.stderr.write(f"In thread {name}:\n{traceback_text(failure.exc_value)}\n")


def _lines(exc: BaseException, seen: set[int]) -> Iterator[str]:
    context = None if exc.__suppress_context__ else exc.__context__
    earlier = exc.__cause__ or context
    if earlier is not None and id(earlier) not in seen and len(seen) < _LONGEST_CHAIN:
        seen.add(id(earlier))
        yield from _lines(earlier, seen)
        yield _CAUSE if exc.__cause__ is not None else _CONTEXT
    if exc.__traceback__ is not None:
        yield "Traceback (most recent call last):\n"
        yield from traceback.format_tb(exc.__traceback__)
    yield f"{described(exc)}\n"
    if isinstance(exc, BaseExceptionGroup) and len(seen) < _LONGEST_CHAIN:
        for each in exc.exceptions:
            seen.add(id(each))
            yield from (f"  | {line}" for text in _lines(each, seen) for line in text.splitlines(keepends=True))


def _is_of_database(exc: BaseException) -> bool:
    return any(kind.__module__.partition(".")[0] in _DATABASE_PACKAGES for kind in type(exc).__mro__)


def _driver_error(exc: BaseException) -> BaseException:
    """The driver's own error: SQLAlchemy's wraps that of its adapter, whose cause is the driver's."""
    error = exc
    while (inner := getattr(error, "orig", None) or error.__cause__) is not None and _is_of_database(inner):
        error = inner
    return error


def _field(error: BaseException, name: str) -> object:
    """asyncpg has the names on the error, psycopg in its `diag`."""
    return getattr(error, name, None) or getattr(getattr(error, "diag", None), name, None)
