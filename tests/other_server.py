"""Programs of another PostgreSQL in place of the embedded one, for `make test-postgres15`."""

from collections.abc import Mapping
from pathlib import Path

from erp_service.standalone import postgres, postgres_directory
from erp_service.standalone.postgres_directory import Account, Setting


def use(programs: Path) -> None:
    """From now on, in this process: initdb knows `-c` since 16 and the builtin provider since 17."""

    def find_programs(account: Account | None, *, copies: Path = Path()) -> Path:
        return programs

    postgres_directory.find_programs = find_programs
    # of the C library, with Debian the same order
    postgres_directory.LOCALE = ("--locale=C.UTF-8",)
    tuned: Mapping[str, Setting] = postgres_directory.TUNED
    postgres_directory.TUNED = {}
    postgres._FIXED = {**{name: value for name, value in tuned.items() if name != "max_connections"}, **postgres._FIXED}
