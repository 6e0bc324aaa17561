"""The bytes of what the trail covers, as SQL.

A row is written as a record of the columns of its form, as text in UTF-8: `(42,1767139200.000000,,item.created,...)`.
A record's text is unambiguous (PostgreSQL's documentation, 8.16.6): null is nothing, an empty text is `\"\"`. Times
are seconds since 1970 with six decimals, so no setting of a session changes anything.

A form is never changed: what was sealed under it must be readable for ever. A new column needs a new form."""

from collections.abc import Mapping, Sequence

from erp_service.registry.sealed import SealedTable

AUDIT_LOG = SealedTable(
    "audit_log",
    {
        1: (
            "id",
            "extract(epoch from at)",
            "user_id",
            "action",
            "entity",
            "entity_id",
            "before",
            "after",
            "reason",
            "request_id",
            "address",
            "on_behalf_of",
            "actor",
            "api_key_id",
        )
    },
)


def digest(columns: Sequence[str]) -> str:
    """SQL of the SHA-256 of a row, whose columns are in scope."""
    return f"sha256(convert_to(row({', '.join(columns)})::text, 'UTF8'))"


def digest_by_form(forms: Mapping[int, Sequence[str]], form: str) -> str:
    """The same by the number of the form, itself SQL; null for a number that this version does not know."""
    cases = " ".join(f"when {number} then {digest(columns)}" for number, columns in forms.items())
    return f"case {form} {cases} end"
