"""What reports share: their paths, query parameters, and the files of those that have one."""

import asyncio
from datetime import UTC, datetime
from typing import Annotated, TypeVar

import msgspec
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import QueryParameter

from erp_service.db.pagination import Page
from erp_service.reports import cells
from erp_service.reports.periods import MOST_DAYS
from erp_service.reports.problems import ReportTooLong
from erp_service.reports.schemas import Period
from erp_service.web.responses import ApiResponse

Line = TypeVar("Line", bound=msgspec.Struct)

PATH = "/api/v1/inventory/reports"
TAGS = ["reports"]
CSV = "text/csv"
FILE = {200: ResponseSpec(bytes, generate_examples=False, description="CSV in UTF-8", media_type=CSV)}

PeriodIn = Annotated[Period, QueryParameter(description="the length of a period")]
Timezone = Annotated[
    str | None,
    QueryParameter(
        min_length=1,
        max_length=64,
        description="the IANA time zone in which days, weeks and months begin; the company's, if it is left out",
    ),
]
SpanFrom = Annotated[
    str | None,
    QueryParameter(
        name="from",
        max_length=100,
        description="`occurred_at` at or after this: a time (RFC 3339, with its zone), or a date, which begins in"
        " `timezone`; without it, from the first day of the month one year before `to`. At most"
        f" {MOST_DAYS} days before `to`",
    ),
]


async def file_of(name: str, kind: type[Line], page: Page[Line], *, dataset: str) -> ApiResponse[bytes]:
    """The page as CSV. Raises ReportTooLong unless it holds all rows."""
    if page.next_cursor is not None:
        raise ReportTooLong(dataset)
    now = datetime.now(UTC)
    return ApiResponse(
        # in a thread, since it takes about a tenth of a second, for which the event loop would stand still
        await asyncio.to_thread(_text, kind, page.items),
        media_type=CSV,
        headers={
            "Content-Disposition": f'attachment; filename="{name}-{now:%Y%m%dT%H%M%SZ}.csv"',
            "Cache-Control": "private, no-transform",
        },
    )


def _text(kind: type[Line], rows: list[Line]) -> bytes:
    return "".join(cells.csv(kind, rows)).encode()
