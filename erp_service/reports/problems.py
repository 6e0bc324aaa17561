"""What a report may refuse. API users read the docstring, at `/problems/{slug}`."""

from erp_service import errors

MOST_ROWS = 10_000


class ReportTooLong(errors.TooLarge):
    """The report has more than 10,000 rows, which is more than one answer should hold.

    Submit an export job at `POST /api/v1/exports/jobs` instead: it has no such limit, and its file can be downloaded
    in parts. `dataset` is the name of the dataset that holds these rows. Or narrow the report by its filters."""

    slug, title = "report-too-long", "The report is too long for one answer"

    def __init__(self, dataset: str) -> None:
        super().__init__(
            f"It has more than {MOST_ROWS} rows: export the dataset {dataset} at POST /api/v1/exports/jobs instead.",
            export="/api/v1/exports/jobs",
            dataset=dataset,
        )
