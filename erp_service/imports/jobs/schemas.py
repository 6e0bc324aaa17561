"""What clients get about imports."""

from datetime import datetime
from typing import Annotated, Any, Literal, TypeAlias
from uuid import UUID

from msgspec import UNSET, Meta, Struct, UnsetType, field

from erp_service.db.pagination import Page
from erp_service.exports.eta import Progress
from erp_service.exports.models import Status
from erp_service.imports.stored import Kind, Mode
from erp_service.inventory.posting.schemas import REASON_LENGTH
from erp_service.texts import Label

SeparatorName: TypeAlias = Literal["comma", "semicolon", "tab", "pipe"]


class ImportSpec(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a job does: import its file, or undo an import. It is stored in the job's row."""

    dry_run: bool = False
    mode: Mode = "create"
    delimiter: SeparatorName | None = None
    decimal_comma: bool = False
    timezone: str | None = None
    encoding: str | None = None
    sort: Literal["occurred_at", "id"] | None = None
    history: bool = False
    keep_codes: bool = False
    undo_of: int | None = None
    """The import that is undone."""
    undo_of_job: UUID | None = None
    reason: str | None = None


class Reason(Label):
    longest = REASON_LENGTH


class Undo(Struct, forbid_unknown_fields=True):
    """Why an import is undone."""

    reason: Annotated[Reason, Meta(description="why; stands in each entry of the reversal, and in the audit log")]


class BadLine(Struct, frozen=True):
    """One fault. A line may have several."""

    line: Annotated[int | None, Meta(description="counted from 1, with the header; null for the file as a whole")]
    column: Annotated[str | None, Meta(description="the name of its column; null for the line as a whole")]
    value: Annotated[str | None, Meta(description="the beginning of what stands there")]
    detail: Annotated[str, Meta(description="what is wrong")]


class Imported(Struct, frozen=True, kw_only=True):
    """What was imported; of a dry run, what would be; of an undo, what was reversed."""

    rows: Annotated[int, Meta(description="rows of the file, without the header and without empty ones")]
    created: Annotated[int, Meta(description="of them, those that made something new")] = 0
    updated: Annotated[int, Meta(description="those that changed something")] = 0
    unchanged: Annotated[int, Meta(description="those that said what was so already")] = 0
    blank_rows: Annotated[int, Meta(description="rows without any value, which were passed over")] = 0
    sha256: Annotated[str | None, Meta(description="the digest of the unpacked file, in hexadecimal")] = None
    warnings: Annotated[list[str], Meta(description="what was taken although it looks wrong: the first hundred")] = (
        field(default_factory=list)
    )


class ImportLinks(Struct, omit_defaults=True):
    """What can be done with the job now."""

    self: Annotated[str, Meta(description="the job")]
    cancel: Annotated[str | None, Meta(description="for POST, while it can be canceled")] = None
    report: Annotated[str | None, Meta(description="all bad lines as CSV, if there are any")] = None
    undo: Annotated[str | None, Meta(description="for POST, while the import can be undone")] = None


class ImportJobOut(Struct):
    """An import. `error` is a problem (RFC 9457), and null unless the import failed."""

    id: Annotated[UUID, Meta(description="the id")]
    dataset: Annotated[Kind, Meta(description="what is imported")]
    mode: Annotated[Mode, Meta(description="what is done with rows that exist, and with new ones")]
    dry_run: Annotated[bool, Meta(description="true: everything is checked, and nothing is kept")]
    filename: Annotated[str, Meta(description="the name of the file, if the client gave one")]
    status: Annotated[
        Status,
        Meta(
            description="how far it is; `succeeded`, `failed`, `canceled` and `expired` are final. An import that has"
            " expired was successful, and its file is gone"
        ),
    ]
    attempt: Annotated[int, Meta(description="how often its run has begun; 0 before the first time")]
    created_at: Annotated[datetime, Meta(description="when it was submitted")]
    started_at: Annotated[datetime | None, Meta(description="when its last attempt began; null before the first")]
    finished_at: Annotated[datetime | None, Meta(description="when it ended; null until then")]
    expires_at: Annotated[datetime | None, Meta(description="when its file and its report are deleted")]
    phase: Annotated[str | None, Meta(description="what the attempt does: reading, checking, posting or undoing")]
    progress: Annotated[Progress, Meta(description="how far the attempt is; each line is read once or twice")]
    result: Annotated[Imported | None, Meta(description="what was imported; null until then")]
    error: Annotated[
        dict[str, Any] | None,
        Meta(description="why it failed; null unless it did", extra={"schema": "Problem"}),
    ]
    undo_of: Annotated[UUID | None, Meta(description="the job whose import this one undoes")]
    created_by: Annotated[int, Meta(description="the id of its owner")]
    links: Annotated[ImportLinks, Meta(description="what can be done with it now")]
    faults: Annotated[
        list[BadLine] | UnsetType,
        Meta(description="the first thousand faults; absent in lists, and if there are none"),
    ] = UNSET


class ImportJobPage(Page[ImportJobOut]):
    """Imports, newest first."""

    items: Annotated[list[ImportJobOut], Meta(description="imports, newest first")]
