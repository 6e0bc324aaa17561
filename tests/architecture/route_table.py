"""Every endpoint and every type of event with its least role and the scope that an API key needs, as they are declared:
the tables in ops/endpoints.md, and what the matrix of callers expects. `make routes` writes the page."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from erp_service.access.roles import Role
from erp_service.access.scopes import KeyAccess, Keys, Scope
from erp_service.features import FEATURES
from erp_service.web.routing import PUBLIC
from tests.architecture.assembled import HANDLERS

PAGE = Path(__file__).parents[2] / "ops/endpoints.md"
_TEXT = """\
# Every endpoint and every type of event

Made by `make routes` from what the code declares. Who calls needs at least the role; an API key needs the scope, too.
The OpenAPI document at `/schema/openapi.json` has the fields of each.

## Endpoints

{endpoints}

## Types of events

What `GET /api/v1/events` and webhooks tell of. A webhook is told only of what the role ADMIN may read.

{events}
"""

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


def event_table() -> str:
    """In Markdown; types with the same role and scope share a row."""
    rows: dict[tuple[Role, Scope], list[str]] = {}
    for feature in FEATURES:
        for types in feature.event_types:
            rows.setdefault((types.role, types.scope), []).extend(types.names)
    lines = ["| type | least role | scope of a key |", "|---|---|---|"]
    for (role, scope), names in sorted(rows.items(), key=lambda row: sorted(row[1])):
        shown = ", ".join(f"`{name}`" for name in sorted(names))
        lines.append(f"| {shown} | {role} | `{scope}` |")
    return "\n".join(lines)


def page() -> str:
    """What ops/endpoints.md says at present."""
    return _TEXT.format(endpoints=table(), events=event_table())


def paths_called() -> Iterator[tuple[Endpoint, str]]:
    """Each endpoint with an address at which there is nothing, so that no call changes anything."""
    for endpoint in endpoints():
        path = re.sub(r"{\w+:int}", "999999", endpoint.path)
        path = re.sub(r"{\w+:uuid}", "00000000-0000-7000-8000-000000000000", path)
        yield endpoint, re.sub(r"{\w+:\w+}", "nothing", path)


if __name__ == "__main__":
    PAGE.write_text(page())
