"""The problems with which exports refuse a request, or end."""

import inspect
from typing import Annotated, Any

from msgspec import UNSET, Meta, UnsetType

from erp_service import errors, problems


class ExportNotReady(errors.Conflict):
    """The export has no file: it waits, runs, failed or was canceled.

    While it waits or runs, follow `GET /api/v1/exports/jobs/{id}` and download once its status is `succeeded`."""

    slug, title = "export-not-ready", "The export is not ready"
    extension = errors.RetryLater


class ExportExpired(errors.Gone):
    """The file was deleted, on request or because it had expired. `POST .../retry` makes a new export like it."""

    slug, title = "export-expired", "The export has expired"


class ExportLost(errors.Gone):
    """The file is not in the store although it should be, or has another size.

    Submit the export again, and tell the operator its id."""

    slug, title = "export-lost", "The export's file is lost"


class ExportFinal(errors.Conflict):
    """The export has ended, so there is nothing to cancel."""

    slug, title = "export-final", "The export has ended"


class ExportUnfinished(errors.Conflict):
    """The export still waits or runs. Cancel it first, or wait until it has ended."""

    slug, title = "export-unfinished", "The export has not ended"


class ExportSucceeded(errors.Conflict):
    """The export has a file: download it. Only failed, canceled and expired exports can be tried again."""

    slug, title = "export-succeeded", "The export has succeeded"


class TooManyExports(errors.TooMany):
    """Too many of your exports are waiting. Wait until some have run, or cancel some."""

    slug, title = "too-many-exports", "Too many exports are waiting"


class FilesOfUser(errors.RetryLater):
    """What a user's export files take up."""

    bytes_kept: Annotated[int | UnsetType, Meta(description="the bytes of the export files that you keep")] = UNSET
    bytes_allowed: Annotated[int | UnsetType, Meta(description="the bytes that one user may keep")] = UNSET


class ExportQuota(errors.TooMany):
    """Your export files take up as many bytes as one user may keep. A running export that passes the quota ends with
    this problem.

    Delete exports that you no longer need with `DELETE /api/v1/exports/jobs/{id}`, which makes room at once, or wait
    until the first of them expires. A filter, fewer columns or a compression make a file smaller."""

    slug, title = "export-quota", "Your export files take up too much space"
    extension = FilesOfUser


class ExportFailed(errors.Internal):
    """The export failed because of a fault of the service, which was logged under the job's id.

    `POST .../retry` tries again."""

    slug, title = "export-failed", "The export failed"


class ExportAbandoned(errors.Internal):
    """The workers that ran the export died too often for another automatic attempt. Tell the operator its id."""

    slug, title = "export-abandoned", "The export was given up"


class ExportForbidden(errors.Forbidden):
    """When the export's turn came, its owner was not active any more, or had lost the role for the dataset."""

    slug, title = "export-forbidden", "The export's owner may no longer read the dataset"


class FormatUnavailable(errors.Refused):
    """The instance that had to write the export lacks the library for its format.

    The catalogue lists the available formats. Tell the operator, or choose another format."""

    status, slug, title = 422, "export-format-unavailable", "The format is not available"


class TooManyRows(errors.Refused):
    """A sheet holds 1,048,575 rows and its header, and the export has more.

    Narrow it with `filter`, or choose a format without that limit: csv, jsonl or parquet."""

    status, slug, title = 422, "too-many-rows", "More rows than the format can hold"


class CellTooLong(errors.Refused):
    """A cell of a sheet holds 32,767 characters, and a text of the export is longer. Texts are never cut.

    Leave that column or row out, or choose a format without that limit: csv, jsonl or parquet."""

    status, slug, title = 422, "cell-too-long", "A text is longer than a cell can hold"


class StoreFull(errors.Refused):
    """The disk for export files is full. Tell the operator, then retry."""

    status, slug, title = 507, "export-store-full", "The export store is full"


class StoreUnknown(errors.Refused):
    """The worker that ran the export has another store than the one the database knows, so the file would be lost.

    Tell the operator, then retry."""

    status, slug, title = 503, "export-store-unknown", "The worker's export store is not the right one"


class StoreUnavailable(errors.Refused):
    """The store for export files does not answer, or refuses the service.

    An export is tried again for some minutes before it fails with this. Tell the operator, and try again later."""

    status, slug, title = 503, "export-store-unavailable", "The export store does not answer"
    extension = errors.RetryLater


def stored_problem(refusal: errors.Refused) -> dict[str, Any]:
    """What the row of an export or a schedule keeps of its failure. It is read without the problem's page at hand, so
    `detail` is never missing: without one of its own it is what the page says."""
    problem = problems.as_problem(refusal, None)
    problem.setdefault("detail", " ".join(inspect.cleandoc(type(refusal).__doc__ or refusal.title).split()))
    return problem
