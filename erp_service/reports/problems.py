"""What a report may refuse. API users read the docstring, at `/problems/{slug}`."""

from typing import Annotated

from msgspec import Meta, Struct

from erp_service import errors

MOST_ROWS = 10_000


class ExportInstead(Struct):
    export: Annotated[str, Meta(description="where to submit an export job")]
    dataset: Annotated[str, Meta(description="the dataset that holds the rows of the report")]


class ReportTooLong(errors.TooLarge):
    """The report has more than 10,000 rows, which is more than one answer should hold.

    Submit an export job at `POST /api/v1/exports/jobs` instead: it has no such limit, and its file can be downloaded
    in parts. `dataset` is the name of the dataset that holds these rows. Or narrow the report by its filters."""

    slug, title = "report-too-long", "The report is too long for one answer"
    extension = ExportInstead

    def __init__(self, dataset: str) -> None:
        super().__init__(
            f"It has more than {MOST_ROWS} rows: export the dataset {dataset} at POST /api/v1/exports/jobs instead.",
            export="/api/v1/exports/jobs",
            dataset=dataset,
        )
