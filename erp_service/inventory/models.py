"""Items, locations, the append-only ledger, and the balances and values, which always equal its sums."""

from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    SmallInteger,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from erp_service import errors
from erp_service.db.base import (
    Base,
    Exact,
    by_bytes,
    money_column,
    quantity_column,
    search_column,
    sort_key_column,
)
from erp_service.inventory.problems import (
    BarcodeTaken,
    CodeTaken,
    ExternalIdTaken,
    LooksAlike,
    NegativeStock,
    PeriodClosed,
    SkuTaken,
    UnitStays,
)


class Item(Base):
    """What is kept in stock. A deleted item keeps its row and its sku, since the ledger names them.

    `units` are its packs: objects of `unit`, `numerator` and `denominator`. `decimals` says how a quantity may be
    divided."""

    __tablename__ = "items"
    __table_args__ = (
        UniqueConstraint("sku"),
        CheckConstraint("status in ('ACTIVE', 'INACTIVE', 'DISCONTINUED')", name="status_known"),
        CheckConstraint("reorder_point >= 0 and reorder_point <> 'NaN'", name="reorder_point_not_negative"),
        CheckConstraint("sku is nfc normalized or deleted_at is not null", name="sku_nfc"),
        CheckConstraint("decimals between 0 and 6", name="decimals_known"),
        CheckConstraint("jsonb_typeof(units) = 'array'", name="units_array"),
        CheckConstraint("jsonb_typeof(metadata) = 'object'", name="metadata_object"),
        Index("items_name_key_id_idx", "name_key", "id"),
        Index("items_barcode_key", "barcode", unique=True, postgresql_where=text("deleted_at is null")),
        Index("items_external_id_key", "external_id", unique=True, postgresql_where=text("deleted_at is null")),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    sku: Mapped[str] = mapped_column(by_bytes())
    name: Mapped[str] = mapped_column(Text)
    search: Mapped[str] = search_column("sku", "name")
    name_key: Mapped[str] = sort_key_column("name")
    unit: Mapped[str] = mapped_column(Text)
    decimals: Mapped[int] = mapped_column(SmallInteger, server_default=text("6"))
    units: Mapped[list[dict[str, str | int]]] = mapped_column(JSONB, server_default=text("'[]'"))
    barcode: Mapped[str | None] = mapped_column(by_bytes())
    external_id: Mapped[str | None] = mapped_column(by_bytes())
    # SQLAlchemy reserves the attribute name "metadata"
    extra: Mapped[dict[str, str]] = mapped_column("metadata", JSONB, server_default=text("'{}'"))
    status: Mapped[str] = mapped_column(Text, server_default=text("'ACTIVE'"))
    description: Mapped[str | None] = mapped_column(Text)
    reorder_point: Mapped[Decimal | None] = mapped_column(quantity_column())
    version: Mapped[int] = mapped_column(BigInteger, server_default=text("1"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())
    deleted_at: Mapped[datetime | None] = mapped_column()


class Location(Base):
    """Where stock is kept: a tree. `allow_negative_stock` is the only policy on negative stock.

    `history_from` is since when no moment may have had negative stock, if not from the beginning."""

    __tablename__ = "locations"
    __table_args__ = (
        UniqueConstraint("code"),
        CheckConstraint("location_type in ('WAREHOUSE', 'ZONE', 'BIN')", name="location_type_known"),
        CheckConstraint("parent_id <> id", name="not_its_own_parent"),
        CheckConstraint("code is nfc normalized or deleted_at is not null", name="code_nfc"),
        CheckConstraint("jsonb_typeof(metadata) = 'object'", name="metadata_object"),
        Index("locations_name_key_id_idx", "name_key", "id"),
        Index("locations_external_id_key", "external_id", unique=True, postgresql_where=text("deleted_at is null")),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    code: Mapped[str] = mapped_column(by_bytes())
    name: Mapped[str] = mapped_column(Text)
    search: Mapped[str] = search_column("code", "name")
    name_key: Mapped[str] = sort_key_column("name")
    location_type: Mapped[str] = mapped_column(Text)
    address: Mapped[str | None] = mapped_column(Text)
    parent_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("locations.id"), index=True)
    allow_negative_stock: Mapped[bool] = mapped_column(server_default=text("false"))
    external_id: Mapped[str | None] = mapped_column(by_bytes())
    extra: Mapped[dict[str, str]] = mapped_column("metadata", JSONB, server_default=text("'{}'"))
    history_from: Mapped[datetime | None] = mapped_column()
    version: Mapped[int] = mapped_column(BigInteger, server_default=text("1"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())
    deleted_at: Mapped[datetime | None] = mapped_column()


class StockTransaction(Base):
    """A document: what was posted together. `reverses` names the document that it reverses, whole or in part;
    `import_id` the import that made it."""

    __tablename__ = "stock_transactions"
    __table_args__ = (
        Index("stock_transactions_reverses_idx", "reverses", postgresql_where=text("reverses is not null")),
        Index("stock_transactions_import_id_idx", "import_id", postgresql_where=text("import_id is not null")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    recorded_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    user_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("users.id"))
    reverses: Mapped[UUID | None] = mapped_column(ForeignKey("stock_transactions.id"))
    import_id: Mapped[int | None] = mapped_column(BigInteger)


class StockEntry(Base):
    """A ledger entry: one signed movement at one location, and what it changed of the item's value; append-only by
    trigger and by grant.

    The order of ids is the order of effects, for one item at one location and, among the entries that are no
    transfers, for one item: ids are assigned while balance and value are locked. `on_hand_after` is that of the
    location, `item_on_hand_after` and `value_after` are of the item over all locations; a transfer has neither, and a
    revaluation no location. Entries from before migration 0017 have values by location, and no `item_on_hand_after`.

    It has no foreign keys, which took half of the time of an insert of many lines (migration 0015): whoever posts holds
    the rows that an entry names, proofs.py says whether all are there, and a trigger keeps them there."""

    __tablename__ = "stock_ledger"
    __table_args__ = (
        UniqueConstraint("transaction_id", "line", "id"),
        CheckConstraint(
            "case entry_type when 'IN' then quantity > 0 when 'TRANSFER_IN' then quantity > 0"
            " when 'OUT' then quantity < 0 when 'TRANSFER_OUT' then quantity < 0"
            " when 'ADJUSTMENT' then true else false end",
            name="sign_of_type",
        ),
        CheckConstraint("quantity <> 'NaN' and value <> 'NaN' and on_hand_after <> 'NaN'", name="numbers"),
        Index("stock_ledger_item_id_location_id_id_idx", "item_id", "location_id", "id"),
        Index("stock_ledger_item_id_location_id_occurred_at_idx", "item_id", "location_id", "occurred_at"),
        Index("stock_ledger_item_id_id_idx", "item_id", "id"),
        Index("stock_ledger_location_id_id_idx", "location_id", "id"),
        Index("stock_ledger_entry_type_id_idx", "entry_type", "id"),
        Index("stock_ledger_occurred_at_idx", "occurred_at"),
        Index("stock_ledger_recorded_at_id_idx", "recorded_at", "id"),
        Index(
            "stock_ledger_reference_no_id_idx", "reference_no", "id", postgresql_where=text("reference_no is not null")
        ),
        Index("stock_ledger_reverses_id_idx", "reverses_id", postgresql_where=text("reverses_id is not null")),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    transaction_id: Mapped[UUID] = mapped_column()
    line: Mapped[int] = mapped_column(Integer)
    item_id: Mapped[int] = mapped_column(BigInteger)
    location_id: Mapped[int | None] = mapped_column(BigInteger)
    entry_type: Mapped[str] = mapped_column(Text)
    quantity: Mapped[Decimal] = mapped_column(quantity_column())
    value: Mapped[Decimal] = mapped_column(money_column())
    unit_cost: Mapped[Decimal | None] = mapped_column(Exact())
    on_hand_after: Mapped[Decimal | None] = mapped_column(quantity_column())
    item_on_hand_after: Mapped[Decimal | None] = mapped_column(quantity_column())
    value_after: Mapped[Decimal | None] = mapped_column(money_column())
    origin: Mapped[str | None] = mapped_column(Text)
    reverses_id: Mapped[int | None] = mapped_column(BigInteger)
    not_covered: Mapped[Decimal | None] = mapped_column(money_column())
    occurred_at: Mapped[datetime] = mapped_column()
    recorded_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    reference_no: Mapped[str | None] = mapped_column(Text)
    notes: Mapped[str | None] = mapped_column(Text)
    reason: Mapped[str | None] = mapped_column(Text)
    extra: Mapped[dict[str, str]] = mapped_column("metadata", JSONB, server_default=text("'{}'"))
    user_id: Mapped[int | None] = mapped_column(BigInteger)


class StockValue(Base):
    """What is on hand of one item over all locations, and its value: the sums of the ledger, updated with each entry.

    `last_cost` is the cost that was last paid for one, None if none was ever stated."""

    __tablename__ = "stock_values"
    __table_args__ = (
        CheckConstraint(
            "(on_hand > 0 and value >= 0 or on_hand = 0 and value = 0 or on_hand < 0 and value <= 0)"
            " and on_hand <> 'NaN' and value <> 'NaN' and last_cost >= 0 and last_cost <> 'NaN'",
            name="sound",
        ),
        ForeignKeyConstraint(["item_id"], ["items.id"]),
        {"postgresql_with": {"fillfactor": 50}},
    )

    item_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    on_hand: Mapped[Decimal] = mapped_column(quantity_column(), server_default=text("0"))
    value: Mapped[Decimal] = mapped_column(money_column(), server_default=text("0"))
    last_cost: Mapped[Decimal | None] = mapped_column(Exact(28, 10))


class StockBalance(Base):
    """What is on hand of one item at one location: the sums of the ledger, updated with each entry.

    `reserved` is the sum of the reservations that are held. `last_occurred_at` is the latest time of an entry, None if
    that is not known yet. `allows_negative` is the location's flag, copied here so that a check constraint can refuse
    negative stock."""

    __tablename__ = "stock_balances"
    __table_args__ = (
        CheckConstraint("on_hand >= 0 or allows_negative", name="on_hand_not_negative"),
        CheckConstraint(
            "on_hand <> 'NaN' and reserved >= 0 and reserved <> 'NaN' and (reserved <= on_hand or allows_negative)",
            name="reserved",
        ),
        Index("stock_balances_location_id_item_id_idx", "location_id", "item_id"),
        ForeignKeyConstraint(["item_id"], ["items.id"]),
        ForeignKeyConstraint(["location_id"], ["locations.id"]),
        {"postgresql_with": {"fillfactor": 50}},
    )

    item_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    location_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    on_hand: Mapped[Decimal] = mapped_column(quantity_column(), server_default=text("0"))
    reserved: Mapped[Decimal] = mapped_column(quantity_column(), server_default=text("0"))
    allows_negative: Mapped[bool] = mapped_column(server_default=text("false"))
    last_occurred_at: Mapped[datetime | None] = mapped_column()


errors.constraint("items_sku_key", SkuTaken)
errors.constraint("locations_code_key", CodeTaken)
errors.constraint("items_sku_nfc", LooksAlike)
errors.constraint("locations_code_nfc", LooksAlike)
errors.constraint("items_unit_stays", UnitStays)  # raised by a trigger, also for whoever writes items by other ways
errors.constraint("stock_balances_on_hand_not_negative", NegativeStock)
errors.constraint("stock_balances_reserved", NegativeStock)
errors.constraint("items_barcode_key", BarcodeTaken)
errors.constraint("items_external_id_key", ExternalIdTaken)
errors.constraint("locations_external_id_key", ExternalIdTaken)
errors.constraint("stock_ledger_period_open", PeriodClosed)
