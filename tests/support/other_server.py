"""Programs of another PostgreSQL in place of the embedded one, for `make test-postgres15` and `make test-upgrade`."""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from erp_service.standalone import postgres, postgres_directory
from erp_service.standalone.postgres_directory import Account, Setting


def use(programs: Path) -> None:
    """Replaces the server for the rest of this process, before the first one starts.

    Production has one server and needs no parameter for another. initdb knows `-c` since 16 and the builtin locale
    provider since 17, so the settings that it would write are given at each start."""

    def find_programs(account: Account | None, *, copies: Path = Path()) -> Path:
        return programs

    postgres_directory.find_programs = find_programs
    # of the C library; with Debian it sorts in the same order
    postgres_directory.LOCALE = ("--locale=C.UTF-8",)
    tuned: Mapping[str, Setting] = postgres_directory.TUNED
    postgres_directory.TUNED = {}
    mostly = {name: value for name, value in tuned.items() if name not in ("max_connections", "wal_level")}
    postgres._FIXED = {**mostly, **postgres._FIXED}


@contextlib.contextmanager
def using(programs: Path) -> Iterator[None]:
    """The same for the servers that are started in it; they may run longer."""
    before = postgres_directory.find_programs, postgres_directory.LOCALE, postgres_directory.TUNED, postgres._FIXED
    use(programs)
    try:
        yield
    finally:
        find_programs, postgres_directory.LOCALE, postgres_directory.TUNED, postgres._FIXED = before
        postgres_directory.find_programs = find_programs
