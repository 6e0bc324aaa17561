"""Append-only tables whose rows the trail covers, beside the audit log."""

from collections.abc import Mapping, Sequence

from msgspec import Struct


class SealedTable(Struct, frozen=True):
    """A table with an identity column `id`, whose rows never change.

    `forms` are the ways in which a row is written as bytes, by number: each the SQL of its columns, whose texts depend
    on no setting of a session. A form never changes: a migration that adds a column adds a form, and the greatest
    number is that of new rows."""

    table: str
    forms: Mapping[int, Sequence[str]]

    @property
    def form(self) -> int:
        return max(self.forms)
