"""What a row of a file says of something that exists: the columns that the file has, and nothing of the others."""

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from erp_service.imports.csv_table import Table
from erp_service.inventory.schemas import METADATA_MEMBERS

Body = TypeVar("Body", bound=msgspec.Struct)


def merged(before: msgspec.Struct, body: Body, table: Table, more: Mapping[str, Any] | None = None) -> Body:
    """The body with the fields of `before` for which the file has no column. An empty cell is the field's default.

    Columns that became metadata set or remove their members; a column `metadata` replaces all."""
    values = {
        name: getattr(body, name) if table.has(name) else getattr(before, name) for name in body.__struct_fields__
    }
    if not table.has("metadata"):
        own = {name for _, name in table.extras}
        kept = {name: value for name, value in getattr(before, "metadata").items() if name not in own}  # noqa: B009
        values["metadata"] = kept | getattr(body, "metadata")  # noqa: B009
    return type(body)(**{**values, **(more or {})})


def too_many_members(metadata: Mapping[str, str]) -> str | None:
    """A file adds members to those that are there: so the limit of a body is not enough."""
    if len(metadata) <= METADATA_MEMBERS:
        return None
    return f"would have {len(metadata)} members with those that it has, and the most are {METADATA_MEMBERS}"
