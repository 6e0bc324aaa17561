"""What clients send and get when they write many items at once."""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from erp_service.inventory.edits import ItemPatch
from erp_service.inventory.schemas import ItemOut

MOST_ITEMS = 1_000

BulkMode = Literal["create", "update", "upsert"]
BulkKey = Literal["sku", "external_id"]
BulkStatus = Literal["created", "updated", "unchanged", "failed"]


class ItemBulk(Struct, forbid_unknown_fields=True, kw_only=True):
    """Items to be made or changed, up to 1,000."""

    items: Annotated[
        list[ItemPatch],
        Meta(
            min_length=1,
            max_length=MOST_ITEMS,
            description="the lines. Each is a merge patch (RFC 7396) of its item: a field that is left out stays as it"
            " is, null gives it its default, `metadata` is merged by key, `units` are replaced. Of a new item, a field"
            " that is left out gets its default",
        ),
    ]
    mode: Annotated[
        BulkMode,
        Meta(
            description="`create`: every line is a new item. `update`: every line is an item that is there. `upsert`:"
            " an item that is there is changed, another is made"
        ),
    ] = "upsert"
    by: Annotated[
        BulkKey,
        Meta(description="the field that says which item a line is; by `external_id`, a line can change the sku"),
    ] = "sku"
    atomic: Annotated[
        bool,
        Meta(description="true: all lines or none. false: each by itself, and the answer says which have failed"),
    ] = True


class ItemBulkResult(Struct):
    """What became of one line."""

    status: Annotated[
        BulkStatus, Meta(description="`unchanged`: the item was so before; its `ETag` stays and nothing is audited")
    ]
    item: Annotated[ItemOut | None, Meta(description="the item as it is now; null if the line has failed")]
    problem: Annotated[
        dict[str, Any] | None,
        Meta(description="why the line has failed; null if it has not", extra={"schema": "Problem"}),
    ]


class ItemBulkOut(Struct):
    """What became of each line, and how many lines became what."""

    created: Annotated[int, Meta(description="the number of new items")]
    updated: Annotated[int, Meta(description="the number of items that were changed")]
    unchanged: Annotated[int, Meta(description="the number of lines that changed nothing")]
    failed: Annotated[int, Meta(description="the number of lines that were refused; 0 if `atomic`")]
    results: Annotated[list[ItemBulkResult], Meta(description="one for each line, in their order")]
