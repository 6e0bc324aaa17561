"""The peer `people`: what is written when nobody thinks of speed, after the tutorials of FastAPI and SQLAlchemy.

FastAPI, pydantic response models, SQLAlchemy's asynchronous ORM with entities, a session for each request, PyJWT, and
the user looked up on each request. One process of uvicorn with uvloop and httptools and a pool of ten connections, as
the service has; no ping on checkout and no logging of requests. It knows no request id, metrics, ETag or filters
either."""

import os
from collections.abc import AsyncIterator
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, ClassVar

import jwt
from fastapi import Depends, FastAPI, HTTPException
from fastapi.security import OAuth2PasswordBearer
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import BigInteger, DateTime, Numeric, select
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

url = os.environ["PEER_DATABASE_URL"].replace("postgresql://", "postgresql+asyncpg://")
engine = create_async_engine(url, pool_size=10, max_overflow=0)
sessions = async_sessionmaker(engine, expire_on_commit=False)
bearer = OAuth2PasswordBearer(tokenUrl="token")


class Base(DeclarativeBase):
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        int: BigInteger,
        Decimal: Numeric(18, 6),
        datetime: DateTime(timezone=True),
    }


class User(Base):
    __tablename__ = "users"

    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str]
    full_name: Mapped[str]
    role: Mapped[str]
    is_active: Mapped[bool]


class Item(Base):
    __tablename__ = "items"

    id: Mapped[int] = mapped_column(primary_key=True)
    sku: Mapped[str]
    name: Mapped[str]
    unit: Mapped[str]
    decimals: Mapped[int]
    units: Mapped[list[dict[str, Any]]] = mapped_column(JSONB)
    barcode: Mapped[str | None]
    external_id: Mapped[str | None]
    extra: Mapped[dict[str, str]] = mapped_column("metadata", JSONB)
    status: Mapped[str]
    description: Mapped[str | None]
    reorder_point: Mapped[Decimal | None]
    version: Mapped[int]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    deleted_at: Mapped[datetime | None]


class ItemOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: int
    sku: str
    name: str
    unit: str
    decimals: int
    units: list[dict[str, Any]]
    barcode: str | None
    external_id: str | None
    metadata: dict[str, str] = Field(validation_alias="extra")
    status: str
    description: str | None
    reorder_point: Decimal | None
    version: int
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None


class ItemPage(BaseModel):
    items: list[ItemOut]
    next_cursor: str | None


async def get_session() -> AsyncIterator[AsyncSession]:
    async with sessions() as session:
        yield session


Session = Annotated[AsyncSession, Depends(get_session)]


async def get_current_user(session: Session, token: Annotated[str, Depends(bearer)]) -> User:
    try:
        secret = os.environ["PEER_SECRET"]
        claims = jwt.decode(token, secret, ["HS256"], issuer="erp_service", audience="erp_service/api")
    except jwt.InvalidTokenError:
        raise HTTPException(401) from None
    user = await session.get(User, int(claims["sub"]))
    if user is None or not user.is_active:
        raise HTTPException(401)
    return user


CurrentUser = Annotated[User, Depends(get_current_user)]
app = FastAPI()


@app.get("/api/v1/inventory/items/{item_id}", response_model=ItemOut)
async def item_by_id(session: Session, user: CurrentUser, item_id: int) -> Item:
    item = await session.get(Item, item_id)
    if item is None or item.deleted_at is not None:
        raise HTTPException(404)
    return item


@app.get("/api/v1/inventory/items", response_model=ItemPage)
async def item_page(session: Session, user: CurrentUser, limit: int = 50, after: int = 0) -> dict[str, object]:
    statement = select(Item).where(Item.deleted_at.is_(None), Item.id > after).order_by(Item.id).limit(limit + 1)
    items = (await session.scalars(statement)).all()
    return {"items": items[:limit], "next_cursor": str(items[limit - 1].id) if len(items) > limit else None}


@app.get("/health/live")
async def live() -> dict[str, str]:
    return {"status": "ok"}
