"""Programs of another PostgreSQL in place of the embedded one, for `make test-postgres15`."""

from collections.abc import Mapping
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
    postgres._FIXED = {**{name: value for name, value in tuned.items() if name != "max_connections"}, **postgres._FIXED}
