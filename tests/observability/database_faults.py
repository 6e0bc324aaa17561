"""Statements that fail in each way in which a database can fail one, each with a secret of the database in the text of
the error: in DETAIL, in CONTEXT, in the message, or among the parameters."""

from collections.abc import Awaitable, Callable

import asyncpg
import psycopg
from sqlalchemy import text

from erp_service.db.connections import connect
from erp_service.db.engine import Database
from erp_service.settings import Settings

EMAIL, NAME = "person.in.secret@example.com", "Anna-Sophia Geheimnis"
HASH = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0$aGFzaGhhc2hoYXNoaGFzaGhhc2hoYXNo"
DIGEST = "5ec2e7d16e570123456789abcdef5ec2e7d16e570123456789abcdef5ec2e7d1"
SECRETS = (EMAIL, NAME, HASH, HASH[-20:], DIGEST)
"""What no output may hold."""

_USER = {"email": EMAIL, "name": NAME, "hash": HASH}
_INSERT = "insert into users (email, full_name, role, password_hash) values (:email, :name, 'VIEWER', :hash)"

STATEMENTS = {
    "unique": _INSERT,
    "check": f"update users set role = 'EMPEROR' where email = '{EMAIL}'",
    "not null": f"update users set full_name = null where email = '{EMAIL}'",
    "foreign key": f"insert into refresh_tokens (digest, family_id, expires_at)"
    f" values ('\\x{DIGEST}00', gen_random_uuid(), now())",
    "foreign key of a referenced row": f"delete from refresh_families where id in"
    f" (select family_id from refresh_tokens where digest = '\\x{DIGEST}') returning pg_sleep(0)",
    "too long": "insert into short_texts (value) select password_hash from users",
    "index row too long": "insert into users (email, full_name, role, password_hash)"
    " select string_agg(md5(n::text), ''), :name, 'VIEWER', :hash from generate_series(1, 3000) n",
    "not a number": "select cast(email as integer) from users",
    "not a time": "select cast(full_name as timestamptz) from users",
    "not json": "select cast(password_hash as json) from users",
    "out of range": "select cast(length(password_hash) as numeric(1, 0)) from users",
    "deadlock": f"do $$ begin raise exception 'deadlock detected' using errcode = '40P01', detail = 'by {EMAIL}',"
    f" hint = '{NAME}'; end $$",
    "serialization": f"do $$ begin raise exception 'could not serialize' using errcode = '40001',"
    f" detail = 'row of {EMAIL}'; end $$",
    "of a function": f"do $$ begin raise exception 'no such user: \"{EMAIL}\"' using hint = '{NAME}'; end $$",
    "permission denied": f"delete from audit_log where request_id = '{EMAIL}'",
    "no such table": "select * from nothing_here where value = :hash",
    "connection lost": "select pg_terminate_backend(pg_backend_pid()), cast(:email as text)",
}
"""By what fails. The literals are what a statement of somebody else might hold: ours pass parameters."""

Fault = Callable[[Database, Settings], Awaitable[None]]


async def prepare(owner: asyncpg.Connection) -> None:
    """The rows that hold the secrets."""
    await owner.execute("create table short_texts (value varchar(5)); grant insert on short_texts to public")
    user_id = await owner.fetchval(
        "insert into users (email, full_name, role, password_hash) values ($1, $2, 'ADMIN', $3) returning id",
        EMAIL, NAME, HASH,
    )  # fmt: skip
    family = await owner.fetchval(
        "insert into refresh_families (id, user_id, expires_at) values (gen_random_uuid(), $1, now()) returning id",
        user_id,
    )
    await owner.execute("insert into refresh_tokens values ($1, $2, now(), now())", bytes.fromhex(DIGEST), family)


def _statement(sql: str) -> Fault:
    async def run(database: Database, _settings: Settings) -> None:
        bound = {name: value for name, value in _USER.items() if f":{name}" in sql}
        async with database.write() as db:
            # the literals are text of the test's own, in which a colon is no parameter
            statement = text(sql) if bound else text(sql.replace(":", "\\:"))
            await db.execute(statement, bound)

    return run


async def _argument(database: Database, _settings: Settings) -> None:
    """Refused by the driver, before anything is sent."""
    async with database.write() as db:
        await db.execute(text("select cast(:hash as integer)"), {"hash": HASH})


async def _timeout(database: Database, _settings: Settings) -> None:
    async with database.write() as db:
        await db.execute(text("set local statement_timeout = 1"))
        await db.execute(text("select pg_sleep(1), cast(:hash as text)"), {"hash": HASH})


async def _copy_in(_database: Database, settings: Settings) -> None:
    connection = await connect(settings.database_url, name="test")
    try:
        rows = f'"{EMAIL}","{HASH}",not-a-number\n'.encode()
        await connection.execute("create temporary table copied (email text, hash text, number integer)")
        await connection.copy_to_table("copied", source=_chunks(rows), format="csv")
    finally:
        await connection.close()


async def _chunks(data: bytes):  # type: ignore[no-untyped-def]
    yield data


async def _psycopg(_database: Database, settings: Settings) -> None:
    async with await psycopg.AsyncConnection.connect(settings.database_url) as connection:
        await connection.execute("update users set role = 'EMPEROR'")


async def _wrapped(database: Database, settings: Settings) -> None:
    """By somebody who puts the text of one error into another, in a group, with a note."""
    try:
        await _statement(STATEMENTS["unique"])(database, settings)
    except Exception as exc:
        other = RuntimeError(f"a task failed: {exc}")
        raise ExceptionGroup("several", [other, exc]) from exc


FAULTS: dict[str, Fault] = {
    **{name: _statement(sql) for name, sql in STATEMENTS.items()},
    "argument": _argument,
    "statement timeout": _timeout,
    "COPY": _copy_in,
    "psycopg": _psycopg,
    "wrapped": _wrapped,
}
