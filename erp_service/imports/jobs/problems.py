"""The problems with which imports refuse a request, or end."""

from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

from erp_service import errors


class FaultCount(Struct):
    """How much is wrong."""

    total: Annotated[int | UnsetType, Meta(description="how many faults the file has")] = UNSET


class FileRefused(errors.Refused):
    """The file has faults, so nothing of it was imported.

    The job's `faults` are the first thousand of them, and `GET .../report` has all as a file. Mend the lines and send
    the file again; with `dry_run=true` it is only checked."""

    status, slug, title = 422, "import-refused", "The file is not imported"
    extension = FaultCount


class ImportFailed(errors.Internal):
    """The import failed because of a fault of the service, which was logged under the job's id. Nothing was imported.

    Send the file again, and tell the operator the id if it fails again."""

    slug, title = "import-failed", "The import failed"


class ImportAbandoned(errors.Internal):
    """The workers that ran the import died too often for another automatic attempt. Nothing was imported. Tell the
    operator its id."""

    slug, title = "import-abandoned", "The import was given up"


class ImportForbidden(errors.Forbidden):
    """When the import's turn came, or while it ran, its owner was not active any more, or had lost the role for what it
    imports. Nothing was imported."""

    slug, title = "import-forbidden", "The import's owner may no longer write this"


class ImportKeyRefused(errors.Forbidden):
    """The import was submitted with an API key, and before it had ended, the key was revoked or had expired. Nothing
    was imported.

    Send the file again with a key that is valid."""

    slug, title = "import-key-refused", "The API key of the import is not valid any more"


class ImportLost(errors.Gone):
    """The file is not in the store although it should be. Nothing was imported.

    Send it again, and tell the operator the job's id."""

    slug, title = "import-lost", "The import's file is lost"


class NoRoomToImport(errors.Refused):
    """The disk of the database, or that of the worker that ran the import, is full. Nothing was imported.

    Tell the operator, then send the file again."""

    status, slug, title = 507, "import-no-room", "There is no room for the import"


class ImportFinal(errors.Conflict):
    """The import has ended, so there is nothing to cancel."""

    slug, title = "import-final", "The import has ended"


class ImportUnfinished(errors.Conflict):
    """The import still waits or runs. Cancel it first, or wait until it has ended."""

    slug, title = "import-unfinished", "The import has not ended"


class TooManyImports(errors.TooMany):
    """Too many of your imports are waiting, or too many of your files are arriving. Wait until some have run, or cancel
    some."""

    slug, title = "too-many-imports", "Too many imports are waiting"


class ImportQuota(errors.TooMany):
    """The files of your imports take up as many bytes as one user may keep.

    Delete imports that have ended with `DELETE /api/v1/imports/jobs/{id}`, which takes nothing of what they imported
    back, or wait until the first of them expires."""

    slug, title = "import-quota", "The files of your imports take up too much space"


class FileTooLarge(errors.TooLarge):
    """The file is larger than the operator allows (`ERP_IMPORT_BYTES`). What is compressed must not be larger when it
    is unpacked, either: split it."""

    slug, title = "import-too-large", "The file is too large"


class UploadTooSlow(errors.TooSlow):
    """The file arrived too slowly, or took longer than half an hour in all. Nothing was imported.

    Compress it by gzip or zstd, or send it over a better connection."""

    slug, title = "import-too-slow", "The file took too long to arrive"


class NotAFile(errors.UnsupportedMedia):
    """The body must be the file itself: CSV (`text/csv`) or JSON Lines (`application/x-ndjson`), as it is or compressed
    by gzip or zstd. No form, no base64, and no JSON document around it."""

    slug, title = "import-media-type", "The body is not a file to import"


class NothingToUndo(errors.Conflict):
    """The job has imported nothing that could be undone: it has not succeeded, was a dry run, or is itself an undo; or
    it imported items or locations, which are changed or deleted one by one, as others may have used them since."""

    slug, title = "import-nothing-to-undo", "There is nothing to undo"


class ImportUndone(errors.Conflict):
    """The import was undone already, and an import can be undone once."""

    slug, title = "import-undone", "The import was undone already"


class NoReport(errors.NotFound):
    """The import has no report of bad lines: it found none, has not ended, or its report has expired."""

    slug, title = "import-no-report", "There is no report of bad lines"
