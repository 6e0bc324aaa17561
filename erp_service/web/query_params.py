"""Query parameters of every list; db/pagination.py makes pages of them, and knows no web framework."""

from typing import Annotated

from litestar.params import QueryParameter

DEFAULT_LIMIT = 50
Limit = Annotated[int, QueryParameter(ge=1, le=500, description="rows on one page")]
Cursor = Annotated[str | None, QueryParameter(max_length=1000, description="`next_cursor` of the page before; opaque")]
