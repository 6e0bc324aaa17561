"""/api/v1/inventory/stock: receipts, issues, transfers, adjustments, documents and their reversals."""

from typing import Annotated
from uuid import UUID

from litestar.di import NamedDependency
from litestar.params import JSONBody, PathParameter
from msgspec.structs import asdict

from erp_service.access.principals import Principal
from erp_service.access.roles import Role
from erp_service.db.sessions import ReadSession, WriteSession
from erp_service.inventory import stock
from erp_service.inventory.problems import AlreadyReversed, InsufficientStock, ItemNotActive, TooManyEntries
from erp_service.inventory.queries.ledger import document_by_id
from erp_service.inventory.stock_schemas import (
    Adjustment,
    Document,
    Issue,
    Movements,
    PostedEntry,
    Receipt,
    Reversal,
    Transfer,
)
from erp_service.web.responses import ApiResponse, created, tagged
from erp_service.web.routing import get, post

_PATH = "/api/v1/inventory/stock"
_DOCUMENT = f"{_PATH}/transactions/{{transaction_id:uuid}}"
_TAGS = ["stock"]

TransactionId = Annotated[UUID, PathParameter(description="`transaction_id` of the document")]


@post(
    f"{_PATH}/in",
    role=Role.STAFF,
    summary="Receive",
    tags=_TAGS,
    status_code=201,
    problems=[ItemNotActive],
    operation_id="receive_stock",
    example={
        "sku": "BEAN-ESP-1K",
        "location": "MAIN-A-01",
        "quantity": "12",
        "unit_cost": "9.85",
        "reference_no": "PO-2041",
    },
)
async def receive(
    write: NamedDependency[WriteSession], who: NamedDependency[Principal], data: JSONBody[Receipt]
) -> ApiResponse[PostedEntry]:
    """Stock comes in at `unit_cost`; without one at the present average, else at the last known one, else at zero.

    Answers the ledger entry. If stock was below zero and no longer is, `settlement` is a second entry, of quantity
    zero: after it, what is on hand is valued at the cost of this receipt."""
    return _entry(await stock.post_one(write, who, data))


@post(
    f"{_PATH}/out",
    role=Role.STAFF,
    summary="Issue",
    tags=_TAGS,
    status_code=201,
    problems=[InsufficientStock, ItemNotActive],
    operation_id="issue_stock",
    example={"sku": "BEAN-ESP-1K", "location": "MAIN-A-01", "quantity": "2", "reference_no": "INV-3001"},
)
async def issue(
    write: NamedDependency[WriteSession], who: NamedDependency[Principal], data: JSONBody[Issue]
) -> ApiResponse[PostedEntry]:
    """Stock goes out at moving average. Answers the ledger entry, whose quantity and value are below zero.

    409 `/problems/insufficient-stock` with `available` if there is not enough and the location does not allow
    negative stock."""
    return _entry(await stock.post_one(write, who, data))


@post(
    f"{_PATH}/transfer",
    role=Role.STAFF,
    summary="Transfer",
    tags=_TAGS,
    status_code=201,
    problems=[InsufficientStock, ItemNotActive],
    operation_id="transfer_stock",
    example={"sku": "BEAN-ESP-1K", "from_location": "MAIN-A-01", "to_location": "SHOP-FLOOR", "quantity": "3"},
)
async def transfer(
    write: NamedDependency[WriteSession], who: NamedDependency[Principal], data: JSONBody[Transfer]
) -> ApiResponse[Document]:
    """Stock goes from one location to another. The value that comes in is exactly the value that went out.

    Answers the document with both ledger entries, TRANSFER_OUT first."""
    return _document(await stock.post_one(write, who, data))


@post(
    f"{_PATH}/adjustment",
    role=Role.ADMIN,
    summary="Adjust",
    tags=_TAGS,
    status_code=201,
    problems=[InsufficientStock],
    operation_id="adjust_stock",
    example={"sku": "BEAN-ESP-1K", "location": "MAIN-A-01", "quantity": "-1", "reason": "a bag was torn"},
)
async def adjust(
    write: NamedDependency[WriteSession], who: NamedDependency[Principal], data: JSONBody[Adjustment]
) -> ApiResponse[PostedEntry]:
    """A correction with its reason: a quantity above zero comes in, one below zero goes out, both at moving average.

    Answers the ledger entry, with its `settlement` as for a receipt."""
    return _entry(await stock.post_one(write, who, data))


@post(
    f"{_PATH}/movements",
    role=Role.STAFF,
    lines=True,
    summary="Post a document",
    tags=_TAGS,
    status_code=201,
    problems=[InsufficientStock, ItemNotActive],
    example={
        "movements": [
            {
                "transaction_type": "IN",
                "sku": "BEAN-ESP-1K",
                "location": "MAIN-A-01",
                "quantity": "10",
                "unit_cost": "9.80",
            },
            {
                "transaction_type": "TRANSFER",
                "sku": "BEAN-ESP-1K",
                "from_location": "MAIN-A-01",
                "to_location": "SHOP-FLOOR",
                "quantity": "4",
            },
        ]
    },
)
async def post_movements(
    write: NamedDependency[WriteSession], who: NamedDependency[Principal], data: JSONBody[Movements]
) -> ApiResponse[Document]:
    """Up to 1,000 movements of any kind, applied in their order, all or none.

    Each line starts from the stock that the lines before it left. `errors` names every bad line
    (`/movements/17/quantity`); if there is not enough stock, the first line that takes too much. A line of type
    ADJUSTMENT needs the role ADMIN."""
    return _document(await stock.post_all(write, who, data.movements))


@get(_DOCUMENT, role=Role.STAFF, summary="A document", tags=_TAGS, problems=[TooManyEntries])
async def get_transaction(read: NamedDependency[ReadSession], transaction_id: TransactionId) -> ApiResponse[Document]:
    """What was posted together, with its ledger entries in the order of their effects."""
    document = await document_by_id(read, transaction_id)
    # a document changes once at most: when it is reversed
    return tagged(document, 1 if document.reversed_by is None else 2)


@post(
    f"{_DOCUMENT}/reverse",
    role=Role.ADMIN,
    summary="Reverse a document",
    tags=_TAGS,
    status_code=201,
    problems=[InsufficientStock, AlreadyReversed, TooManyEntries],
    operation_id="reverse_transaction",
    example={"reason": "entered twice"},
)
async def reverse(
    write: NamedDependency[WriteSession],
    who: NamedDependency[Principal],
    transaction_id: TransactionId,
    data: JSONBody[Reversal],
) -> ApiResponse[Document]:
    """Reverses a whole document, once, by new entries of the opposite kind in the opposite order.

    Stock that goes out again takes the value that it came in with, if that value is still on hand, else the moving
    average. Stock that comes in again brings the value that it went out with. The reversal is a document too, and can
    be reversed."""
    return _document(await stock.reverse(write, who, transaction_id, data))


def _entry(document: Document) -> ApiResponse[PostedEntry]:
    entry, settlement = (*document.entries, None)[:2]
    if entry is None:
        raise ValueError("a document without entries")
    return created(PostedEntry(**asdict(entry), settlement=settlement), _address(document))


def _document(document: Document) -> ApiResponse[Document]:
    return created(document, _address(document), 1)


def _address(document: Document) -> str:
    return f"{_PATH}/transactions/{document.transaction_id}"


ROUTES = [receive, issue, transfer, adjust, post_movements, get_transaction, reverse]
