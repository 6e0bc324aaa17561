"""What the commands on a database share: how long they wait for it, and how they end without it."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from erp_service import errors
from erp_service.commands.terminal import say
from erp_service.db.outages import DATABASE_ERRORS
from erp_service.settings import SettingsError

WAIT_SECONDS = 300.0
"""How long a command waits for the database at its start: longer than a server takes to recover from a crash."""

SHORT_WAIT_SECONDS = 20.0
"""The same of a command that a person waits for: a name that is not resolved at once, a server that restarts."""


@contextmanager
def exit_on_error(*kinds: type[Exception]) -> Iterator[None]:
    """What a person can cause ends in one clear message and status 1, with no stack trace.

    `kinds` are the command's own, beside wrong settings, what a rule refuses, and a database that does not answer."""
    its_own: tuple[type[Exception], ...] = (SettingsError, *kinds)
    try:
        yield
    except its_own as exc:
        say(f"erp: {exc}")
        sys.exit(1)
    except errors.Refused as exc:
        faults = "".join(f"\n  {fault.detail}" for fault in exc.faults)
        say(f"erp: {exc.detail or exc.title}{faults}")
        sys.exit(1)
    except DATABASE_ERRORS as exc:
        # SQLAlchemy's own text goes on with the statement and an address
        why = str(getattr(exc, "orig", None) or exc) or "it does not answer"
        say(f"erp: the database cannot be used: {why}")
        sys.exit(1)
