"""What a count may refuse. API users read the docstrings, at `/problems/{slug}`."""

from decimal import Decimal
from typing import Annotated
from uuid import UUID

from msgspec import UNSET, Meta, Struct, UnsetType

from erp_service import errors


class EndOfCount(Struct):
    """How the count ended."""

    count_status: Annotated[str | UnsetType, Meta(description="POSTED or CANCELED")] = UNSET
    transaction_id: Annotated[
        UUID | UnsetType | None, Meta(description="the document that booked its differences; null if there were none")
    ] = UNSET


class MovedLine(Struct):
    """A line whose stock moved after it was counted."""

    item_id: Annotated[int, Meta(description="the id of the item")]
    sku: Annotated[str, Meta(description="its sku")]
    counted: Annotated[Decimal | None, Meta(description="what was counted; null if nobody counted it")]
    expected: Annotated[
        Decimal,
        Meta(description="what was on hand by the books when it was counted; if nobody counted it, what is now"),
    ]
    on_hand: Annotated[Decimal, Meta(description="what is on hand by the books now")]
    count_again: Annotated[
        bool,
        Meta(description="`accept_moved` does not help: another count has corrected it since, or nobody counted it"),
    ]


class MovedLines(Struct):
    moved: Annotated[int, Meta(description="the number of all such lines")]
    lines: Annotated[list[MovedLine], Meta(description="the first 100 of them, by item")]


class Differences(Struct):
    differences: Annotated[int, Meta(description="the number of lines that differ from the books")]


class CountEnded(errors.Conflict):
    """The count was posted or canceled, so it does not change any more, and is not posted again.

    `count_status` says which of the two it was. Open another count for what is counted from now on; to take back what a
    count has booked, reverse its document (`transaction_id`), or count again."""

    slug, title = "count-ended", "The count has ended"
    extension = EndOfCount


class StockMoved(errors.Conflict):
    """Stock of these items moved after they were counted. Nothing was posted.

    Post with `accept_moved` if the movements are right: then each difference to what was there when it was counted is
    booked to what is there now, and no sale in between is undone. Or count the items again: send their lines once more.

    A line with `count_again` needs the latter. Another count has corrected the item since: the same difference would be
    booked twice. Or it would be set to zero because nobody counted it, though it moved after the count was opened."""

    slug, title = "stock-moved", "Stock moved after it was counted"
    extension = MovedLines


class TooManyDifferences(errors.Conflict):
    """The count differs from the books in more lines than one document takes: 5,000. Nothing was posted.

    Take lines out of it (`counted: null`), and put them into another count of the same location."""

    slug, title = "too-many-differences", "The count has too many differences"
    extension = Differences
