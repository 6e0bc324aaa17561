"""Every endpoint with its least role and the scope that an API key needs, as the routes declare them: the table in the
README, and what the matrix of callers expects. `make routes` writes the table."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from erp_service.access.roles import Role
from erp_service.access.scopes import KeyAccess, Keys
from erp_service.web.routing import PUBLIC
from tests.architecture.assembled import HANDLERS

README = Path(__file__).parents[2] / "README.md"
BEGIN, END = "<!-- endpoints: made by `make routes` -->", "<!-- end of endpoints -->"

_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")


class Endpoint(NamedTuple):
    """`role` None: no token is needed."""

    method: str
    path: str
    role: Role | None
    scope: KeyAccess
    while_password_expired: bool
    without_second_factor: bool

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


def endpoints() -> list[Endpoint]:
    """All of them, also those that the OpenAPI document leaves out; by path."""
    each = [
        Endpoint(
            method,
            path,
            handler.opt["role"],
            handler.opt["scope"],
            handler.opt.get("while_password_expired", False),
            handler.opt.get("without_second_factor", False),
        )
        for path, handler in HANDLERS
        for method in handler.http_methods
    ]
    return sorted(each, key=lambda endpoint: (endpoint.path, endpoint.method))


def table() -> str:
    """In Markdown; methods of a path with the same role and scope share a row."""
    rows: dict[tuple[str, Role | None, KeyAccess], list[str]] = {}
    for endpoint in endpoints():
        if not endpoint.path.startswith(("/docs", "/schema")):
            rows.setdefault((endpoint.path, endpoint.role, endpoint.scope), []).append(endpoint.method)
    lines = ["| endpoint | least role | scope of a key |", "|---|---|---|"]
    for (path, role, scope), methods in rows.items():
        shown = re.sub(r":\w+}", "}", path)
        ordered = ", ".join(sorted(methods, key=_METHODS.index))
        lines.append(f"| `{ordered} {shown}` | {_who(role)} | {_which(role, scope)} |")
    return "\n".join(lines)


def _who(role: Role | None) -> str:
    return "no token" if role is PUBLIC else str(role)


def _which(role: Role | None, scope: KeyAccess) -> str:
    if role is PUBLIC:
        return ""
    if scope is Keys.NONE:
        return "not for keys"
    return "any key" if scope is Keys.ANY else f"`{scope}`"


def written(readme: str) -> str:
    """The README with the present table. Raises ValueError if it has no place for it."""
    before, _, rest = readme.partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise ValueError(f"the README needs the lines {BEGIN} and {END}")
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


def paths_called() -> Iterator[tuple[Endpoint, str]]:
    """Each endpoint with an address at which there is nothing, so that no call changes anything."""
    for endpoint in endpoints():
        path = re.sub(r"{\w+:int}", "999999", endpoint.path)
        path = re.sub(r"{\w+:uuid}", "00000000-0000-7000-8000-000000000000", path)
        yield endpoint, re.sub(r"{\w+:\w+}", "nothing", path)


if __name__ == "__main__":
    README.write_text(written(README.read_text()))
