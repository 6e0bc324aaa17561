"""The problem with which operators' actions on jobs are refused, beside those of the queue, exports and imports."""

from erp_service import errors


class ImportNotRetried(errors.Conflict):
    """The job makes an import, whose file is checked again when it is submitted again.

    Submit the file again at `POST /api/v1/imports/jobs`."""

    slug, title = "import-not-retried", "An import is submitted again, not tried again"
