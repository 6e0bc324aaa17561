"""/api/v1/inventory/stock: receipts, issues, transfers, adjustments, documents and their reversals."""

from typing import Annotated
from uuid import UUID

from litestar.di import NamedDependency
from litestar.params import JSONBody, PathParameter
from msgspec.structs import asdict

from erp_service.access.principals import Principal
from erp_service.access.roles import Role
from erp_service.access.scopes import Scope
from erp_service.db.sessions import ReadSession, WriteSession
from erp_service.inventory.posting import assembly, reversal, service
from erp_service.inventory.posting.schemas import (
    Adjustment,
    Assembly,
    Document,
    Issue,
    Movements,
    PostedEntry,
    Receipt,
    Revaluation,
    Reversal,
    Transfer,
)
from erp_service.inventory.problems import (
    AlreadyReversed,
    CostUnknown,
    InsufficientStock,
    ItemNotActive,
    PeriodClosed,
    TooManyEntries,
)
from erp_service.inventory.queries.ledger import document_by_id
from erp_service.inventory.reservations.problems import ReservationEnded
from erp_service.web.responses import ApiResponse, created, tagged
from erp_service.web.routing import get, post

_PATH = "/api/v1/inventory/stock"
_DOCUMENT = f"{_PATH}/transactions/{{transaction_id:uuid}}"
_TAGS = ["stock"]

TransactionId = Annotated[UUID, PathParameter(description="`transaction_id` of the document")]


@post(
    f"{_PATH}/in",
    role=Role.STAFF,
    scope=Scope.STOCK_WRITE,
    summary="Receive",
    tags=_TAGS,
    status_code=201,
    problems=[ItemNotActive, PeriodClosed, CostUnknown],
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
    """Stock comes in, and costs `total_cost` or `unit_cost`; without either it is valued at the present average, else
    at the cost that was last paid. If no cost was ever stated, one is asked for (422): it is never guessed.

    Answers the ledger entry. If stock was below zero, `settlement` is a second entry, of quantity zero: what was sold
    too early turns out to have cost what is paid now."""
    return _entry(await service.post_one(write, who, data))


@post(
    f"{_PATH}/out",
    role=Role.STAFF,
    scope=Scope.STOCK_WRITE,
    summary="Issue",
    tags=_TAGS,
    status_code=201,
    problems=[InsufficientStock, ItemNotActive, PeriodClosed, CostUnknown, ReservationEnded],
    operation_id="issue_stock",
    example={"sku": "BEAN-ESP-1K", "location": "MAIN-A-01", "quantity": "2", "reference_no": "INV-3001"},
)
async def issue(
    write: NamedDependency[WriteSession], who: NamedDependency[Principal], data: JSONBody[Issue]
) -> ApiResponse[PostedEntry]:
    """Stock goes out at moving average. Answers the ledger entry, whose quantity and value are below zero.

    With `reservation_id` what that reservation holds is taken first; if less is taken, it holds the rest.

    409 `/problems/insufficient-stock` with `available` if there is not enough and the location does not allow
    negative stock: on hand, less what other reservations hold."""
    return _entry(await service.post_one(write, who, data))


@post(
    f"{_PATH}/transfer",
    role=Role.STAFF,
    scope=Scope.STOCK_WRITE,
    summary="Transfer",
    tags=_TAGS,
    status_code=201,
    problems=[InsufficientStock, ItemNotActive, PeriodClosed, CostUnknown],
    operation_id="transfer_stock",
    example={"sku": "BEAN-ESP-1K", "from_location": "MAIN-A-01", "to_location": "SHOP-FLOOR", "quantity": "3"},
)
async def transfer(
    write: NamedDependency[WriteSession], who: NamedDependency[Principal], data: JSONBody[Transfer]
) -> ApiResponse[Document]:
    """Stock goes from one location to another. What the item is worth does not change: it has one average for the whole
    company.

    Answers the document with both ledger entries, TRANSFER_OUT first."""
    return _document(await service.post_one(write, who, data))


@post(
    f"{_PATH}/adjustment",
    role=Role.ADMIN,
    scope=Scope.STOCK_WRITE,
    summary="Adjust",
    tags=_TAGS,
    status_code=201,
    problems=[InsufficientStock, PeriodClosed, CostUnknown],
    operation_id="adjust_stock",
    example={"sku": "BEAN-ESP-1K", "location": "MAIN-A-01", "quantity": "-1", "reason": "a bag was torn"},
)
async def adjust(
    write: NamedDependency[WriteSession], who: NamedDependency[Principal], data: JSONBody[Adjustment]
) -> ApiResponse[PostedEntry]:
    """A correction with its reason: a quantity above zero was found, one below zero is missing. Both are valued at
    moving average, unless what was found states its cost.

    Answers the ledger entry, with its `settlement` as for a receipt."""
    return _entry(await service.post_one(write, who, data))


@post(
    f"{_PATH}/revaluation",
    role=Role.ADMIN,
    scope=Scope.STOCK_WRITE,
    summary="Revalue",
    tags=_TAGS,
    status_code=201,
    problems=[PeriodClosed],
    operation_id="revalue_stock",
    example={"sku": "BEAN-ESP-1K", "difference": "25", "quantity": "50", "reason": "freight of PO-2041"},
)
async def revalue(
    write: NamedDependency[WriteSession], who: NamedDependency[Principal], data: JSONBody[Revaluation]
) -> ApiResponse[PostedEntry]:
    """Changes what an item is worth, of all that is on hand at all locations, by an entry of quantity zero.

    With `difference`, and `quantity` for what it belongs to, as a freight bill for 50 pieces: of these only what is
    still on hand takes its share. What belongs to the rest is answered as `not_covered`, for the books to take. With
    `value` or `unit_value` a wrong cost is mended."""
    return _entry(await service.post_one(write, who, data))


@post(
    f"{_PATH}/assembly",
    role=Role.STAFF,
    scope=Scope.STOCK_WRITE,
    lines=True,
    summary="Assemble a kit",
    tags=_TAGS,
    status_code=201,
    problems=[InsufficientStock, ItemNotActive, PeriodClosed, CostUnknown],
    operation_id="assemble_kit",
    example={
        "sku": "BEAN-ETH-250",
        "location": "SHOP-FLOOR",
        "quantity": "4",
        "components": [{"sku": "BEAN-ESP-1K", "location": "MAIN-A-01", "quantity": "1"}],
    },
)
async def assemble(
    write: NamedDependency[WriteSession], who: NamedDependency[Principal], data: JSONBody[Assembly]
) -> ApiResponse[Document]:
    """The components go out at moving average, and the kit comes in at exactly their value.

    With `disassemble` the other way: the kit goes out, and its components come in with its value, shared by what each
    of them is worth at present; the last takes what rounding leaves. Each `quantity` is for the whole."""
    return _document(await assembly.assemble(write, who, data))


@post(
    f"{_PATH}/movements",
    role=Role.STAFF,
    scope=Scope.STOCK_WRITE,
    lines=True,
    summary="Post a document",
    tags=_TAGS,
    status_code=201,
    problems=[InsufficientStock, ItemNotActive, PeriodClosed, CostUnknown, ReservationEnded],
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
    """Up to 2,000 movements of any kind, applied in their order, all or none.

    Each line starts from the stock that the lines before it left. `errors` names every bad line
    (`/movements/17/quantity`); if there is not enough stock, the first line that takes too much. A line of type
    ADJUSTMENT or REVALUATION needs the role ADMIN."""
    return _document(await service.post_all(write, who, data.movements))


@get(_DOCUMENT, role=Role.STAFF, scope=Scope.STOCK_READ, summary="A document", tags=_TAGS, problems=[TooManyEntries])
async def get_transaction(read: NamedDependency[ReadSession], transaction_id: TransactionId) -> ApiResponse[Document]:
    """What was posted together, with its ledger entries in the order of their effects."""
    document = await document_by_id(read, transaction_id)
    # a document changes only when it is reversed
    return tagged(document, 1 + len(document.reversed_by))


@post(
    f"{_DOCUMENT}/reverse",
    lines=True,
    role=Role.ADMIN,
    scope=Scope.STOCK_WRITE,
    summary="Reverse a document",
    tags=_TAGS,
    status_code=201,
    problems=[InsufficientStock, AlreadyReversed, PeriodClosed, TooManyEntries],
    operation_id="reverse_transaction",
    example={"reason": "entered twice"},
)
async def reverse(
    write: NamedDependency[WriteSession],
    who: NamedDependency[Principal],
    transaction_id: TransactionId,
    data: JSONBody[Reversal],
) -> ApiResponse[Document]:
    """Reverses a document, or `lines` of it up to what they were, by new entries of the opposite kind in the opposite
    order. That is what a customer's return is (of a document with OUT), and a return to a supplier (of one with IN).

    Stock that comes in again brings the share of value that it went out with. Stock that goes out again takes the share
    that it came in with, as far as that is still there, else the moving average: the `settlement` that follows is the
    difference. The reversal is a document too, and can be reversed."""
    return _document(await reversal.reverse(write, who, transaction_id, data))


def _entry(document: Document) -> ApiResponse[PostedEntry]:
    entry, settlement = (*document.entries, None)[:2]
    if entry is None:
        raise ValueError("a document without entries")
    return created(PostedEntry(**asdict(entry), settlement=settlement), _address(document))


def _document(document: Document) -> ApiResponse[Document]:
    return created(document, _address(document), 1)


def _address(document: Document) -> str:
    return f"{_PATH}/transactions/{document.transaction_id}"


ROUTES = [receive, issue, transfer, adjust, revalue, assemble, post_movements, get_transaction, reverse]
