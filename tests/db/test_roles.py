"""What each role of the database may not do, tried by SQL as that role; and that nothing was left undecided."""

import asyncio
import re
from pathlib import Path
from typing import get_args
from uuid import uuid4

import asyncpg
import pytest

from erp_service.access.roles import Role
from erp_service.db import migrate as schema
from erp_service.db.engine import Database
from erp_service.features import FEATURES
from erp_service.registry.datasets import Dataset
from erp_service.registry.feature import load
from erp_service.settings import Settings
from erp_service.standalone.postgres import Cluster, RoleName
from tests.support.databases import as_owner, connected
from tests.support.settings import as_role
from tests.support.users import make_user
from tests.support.waiting import eventually

EVERY: tuple[RoleName, ...] = get_args(RoleName)
APART: tuple[RoleName, ...] = ("erp_api", "erp_worker", "erp_reader")
GRANTS = (Path(__file__).parents[2] / "migrations/grants.sql").read_text()
AUDIT = "insert into audit_log (action, entity, entity_id{columns}) values ('item.deleted', 'item', '1'{values})"
ENTRY = (
    "insert into stock_ledger (transaction_id, line, item_id, location_id, entry_type, quantity, value, on_hand_after,"
    " value_after, occurred_at{columns}) values ('00000000-0000-7000-8000-000000000000', 1, 1, 1, 'IN', 1, 1, 1, 1,"
    " now(){values})"
)
DOCUMENT = "insert into stock_transactions (id{columns}) values (gen_random_uuid(){values})"
LONG_AGO = "'2001-01-01Z'"


async def permitted(owner: asyncpg.Connection, role: RoleName, *statements: str) -> list[str]:
    """Those of the statements that the role is not refused."""
    done = []
    await owner.execute(f"set role {role}")
    for statement in statements:
        transaction = owner.transaction()
        await transaction.start()
        try:
            await owner.execute(statement)
        except asyncpg.InsufficientPrivilegeError:
            pass
        except asyncpg.PostgresError as exc:
            done.append(f"{statement}: {exc}")
        else:
            done.append(statement)
        await transaction.rollback()
    await owner.execute("reset role")
    return done


@pytest.mark.parametrize("role", EVERY)
async def test_no_role_of_the_service_defines_anything(owner: asyncpg.Connection, role: RoleName) -> None:
    assert (
        await permitted(
            owner,
            role,
            "create table mine (id int)",
            "create schema mine",
            "create function mine() returns int language sql return 1",
            "create or replace function erp_password_hash(user_id bigint) returns text language sql return ''",
            "create role mine",
            "alter table items add column mine int",
            "alter table stock_ledger disable trigger stock_ledger_append_only",
            "create trigger mine before insert on items for each row execute function erp_refuse_change()",
            "drop table items",
            "drop trigger audit_log_append_only on audit_log",
            "truncate rate_limits",
            "update alembic_version set version_num = '0001'",
        )
        == []
    )


@pytest.mark.parametrize("role", EVERY)
async def test_no_role_rewrites_history(owner: asyncpg.Connection, role: RoleName) -> None:
    changes = ("update {} set user_id = 1", "delete from {}", "truncate {} cascade")
    tables = ("audit_log", "stock_transactions", "stock_ledger")
    assert await permitted(owner, role, *(change.format(table) for change in changes for table in tables)) == []


@pytest.mark.parametrize("role", EVERY)
async def test_no_role_writes_history_with_a_time_or_a_number_of_its_own(
    owner: asyncpg.Connection, role: RoleName
) -> None:
    assert (
        await permitted(
            owner,
            role,
            AUDIT.format(columns=", at", values=f", {LONG_AGO}"),
            AUDIT.format(columns=", id", values=", 1").replace(" values", " overriding system value values"),
            DOCUMENT.format(columns=", recorded_at", values=f", {LONG_AGO}"),
            ENTRY.format(columns=", recorded_at", values=f", {LONG_AGO}"),
            ENTRY.format(columns=", id", values=", 1").replace(" values", " overriding system value values"),
        )
        == []
    )


async def test_workers_and_readers_change_no_user_and_delete_nothing(owner: asyncpg.Connection) -> None:
    for role in ("erp_worker", "erp_reader"):
        assert (
            await permitted(
                owner,
                role,
                "delete from items",
                "delete from locations",
                "delete from stock_balances",
                "delete from stock_values",
                "delete from imports",
                "delete from import_jobs",
                "update users set role = 'SUPER_ADMIN'",
                "insert into users (email, full_name, role, password_hash) values ('a@b.c', '', 'ADMIN', '')",
                "update refresh_tokens set used_at = null",
                "insert into refresh_families (id, user_id, expires_at) values (gen_random_uuid(), 1, 'infinity')",
                "update export_schedules set cron = ''" if role == "erp_reader" else "delete from export_schedules",
            )
            == []
        )


async def test_readers_write_no_stock(owner: asyncpg.Connection) -> None:
    assert (
        await permitted(
            owner,
            "erp_reader",
            ENTRY.format(columns="", values=""),
            DOCUMENT.format(columns="", values=""),
            "update stock_balances set on_hand = 1",
            "update items set name = ''",
            "insert into items (sku, name, unit) values ('A', 'A', 'PCS')",
        )
        == []
    )


async def test_worker_changes_what_imports_and_expiry_need_and_no_other_column(owner: asyncpg.Connection) -> None:
    """Each column of these tables: one that comes later is a decision too."""
    kept = {
        "import_jobs": "id user_id dataset spec most_role api_key_id filename file_bytes file_sha256 created_at",
        "imports": "id kind sha256 content_sha256 filename mode imported_at",
        "items": "id created_at deleted_at",
        "locations": "id created_at deleted_at",
        "stock_balances": "item_id location_id",
        "stock_reservations": "id item_id location_id quantity original_quantity reference expires_at user_id"
        " created_at",
        "stock_values": "item_id",
    }
    columns = await owner.fetch(
        "select table_name::text, column_name::text from information_schema.columns where table_schema = 'public'"
        " and table_name = any ($1) and is_generated = 'NEVER' and is_identity = 'NO' order by 1, 2",
        list(kept),
    )
    changes = [f"update {table} set {column} = {column}" for table, column in columns]
    allowed = [
        f"update {table} set {column} = {column}" for table, column in columns if column not in kept[table].split()
    ]
    done = await permitted(owner, "erp_worker", *changes)
    assert [change.partition(":")[0] for change in done] == allowed
    assert await permitted(owner, "erp_reader", *changes) == []
    others = ["insert into stock_reservations select * from stock_reservations", "delete from stock_reservations"]
    assert await permitted(owner, "erp_worker", *others) == []


async def test_reader_writes_nothing_at_all(owner: asyncpg.Connection) -> None:
    tables = await owner.fetch("select relname from pg_class where relnamespace = 'public'::regnamespace"
                               " and relkind in ('r', 'p')")  # fmt: skip
    changes = [f"delete from {name}" for (name,) in tables] + [f"lock table {name}" for (name,) in tables]
    assert await permitted(owner, "erp_reader", *changes, AUDIT.format(columns="", values="")) == []


async def test_no_role_reads_the_column_of_password_hashes(database: Database, owner: asyncpg.Connection) -> None:
    user_id = await make_user(database, Role.VIEWER, password_hash="$argon2id$secret")
    for role in APART:
        assert (
            await permitted(
                owner,
                role,
                "select password_hash from users",
                "select * from users",
                "select users from users",
                "update users set full_name = password_hash",
                "update users set full_name = '' where password_hash = ''",
                "insert into users (email, full_name, role, password_hash)"
                " values ('x@y.z', '', 'VIEWER', '') returning password_hash",
                "copy users (password_hash) to stdout",
            )
            == []
        )
    for role in ("erp_worker", "erp_reader"):
        assert await permitted(owner, role, f"select erp_password_hash({user_id})") == []
    for role in ("erp_api", "erp_app"):
        await owner.execute(f"set role {role}")
        assert await owner.fetchval("select erp_password_hash($1)", user_id) == "$argon2id$secret"
        assert await owner.fetchval("select erp_password_hash($1)", 2**62) is None
        await owner.execute("reset role")


async def test_function_that_reads_hashes_looks_in_no_schema_of_the_callers(
    database: Database, owner: asyncpg.Connection
) -> None:
    user_id = await make_user(database, Role.VIEWER, password_hash="real")
    await owner.execute("create temporary table users as select $$planted$$::text as password_hash, 1::bigint as id")
    await owner.execute("set search_path = pg_temp, public")
    assert await owner.fetchval("select erp_password_hash($1)", user_id) == "real"


async def test_workers_and_readers_read_no_answers_tokens_or_files_that_are_not_theirs(
    owner: asyncpg.Connection,
) -> None:
    for role in ("erp_worker", "erp_reader"):
        columns = ("body", "headers", "digest")
        assert await permitted(owner, role, *(f"select {column} from idempotency" for column in columns)) == []
        second_factors = (
            "select * from {}",
            "select 1 from {}",
            "delete from {}",
            "insert into {} (user_id) values (1)",
        )
        tables = ("second_factors", "recovery_codes")
        assert await permitted(owner, role, *(each.format(table) for each in second_factors for table in tables)) == []
    assert (
        await permitted(
            owner,
            "erp_reader",
            "select args from procrastinate_jobs",
            "select 1 from procrastinate_jobs",
            "select digest from refresh_tokens",
            "select 1 from refresh_families",
            "select data from export_chunks",
            "select 1 from rate_limits",
        )
        == []
    )


async def test_workers_and_readers_know_which_keys_are_valid_and_read_and_change_none(
    owner: asyncpg.Connection,
) -> None:
    for role in ("erp_worker", "erp_reader"):
        known = "select id, user_id, role, scopes, networks, expires_at, revoked_at from api_keys"
        assert await permitted(owner, role, known) == [known]
        assert (
            await permitted(
                owner,
                role,
                "select digest from api_keys",
                "select * from api_keys",
                "select id from api_keys for update",
                "update api_keys set revoked_at = now()",
                "update api_keys set expires_at = null",
                "delete from api_keys",
                "insert into api_keys (user_id, name, role, scopes, digest, hint)"
                " values (1, '', 'ADMIN', '{items:read}', sha256(''), '')",
            )
            == []
        )


async def test_worker_names_a_user_only_as_the_owner_of_the_export_or_schedule(
    database: Database, owner: asyncpg.Connection, settings: Settings
) -> None:
    """Whoever takes over a worker cannot write that an administrator did something."""
    user_id, other = await make_user(database, Role.VIEWER), await make_user(database, Role.ADMIN)
    export_id, schedule_id = uuid4(), uuid4()
    await owner.execute(
        "insert into export_jobs (id, user_id, dataset, format, compression, spec, retention_hours)"
        " values ($1, $2, 'items', 'csv', 'none', '{}', 1)",
        export_id,
        user_id,
    )
    await owner.execute(
        "insert into export_schedules (id, user_id, cron, timezone, spec, next_run_at)"
        " values ($1, $2, '0 0 * * *', 'UTC', '{}', now())",
        schedule_id,
        user_id,
    )
    await owner.execute("alter table audit_log add column if not exists on_behalf_of bigint")
    await owner.execute("alter table export_schedules add column if not exists changed_by bigint")
    await schema.migrate(settings.migration_database_url or "")
    entry = "insert into audit_log (user_id, action, entity, entity_id) values ({}, 'a', '{}', '{}')"
    assert (
        await permitted(
            owner,
            "erp_worker",
            entry.format(other, "export", export_id),
            entry.format(other, "schedule", schedule_id),
            entry.format(user_id, "item", 1),
            entry.format(user_id, "export", uuid4()),
            entry.format("null", "item", 1).replace("(user_id", "(on_behalf_of").replace("null", str(other)),
            f"update export_jobs set user_id = {other}",
            f"update export_schedules set user_id = {other}",
            f"update export_schedules set changed_by = {other}",
            "update export_schedules set spec = '{}'",
        )
        == []
    )
    await owner.execute("set role erp_worker")
    for done in (("null", "job", 1), (user_id, "export", export_id), (user_id, "schedule", schedule_id)):
        await owner.execute(entry.format(*done))
    await owner.execute("reset role")
    # an administrator who has changed somebody's schedule acts for them when it runs
    await owner.execute("alter table export_schedules drop constraint if exists export_schedules_changed_by_another")
    await owner.execute("update export_schedules set changed_by = $1", other)
    await owner.execute("set role erp_worker")
    for done in ((other, "schedule", schedule_id), (other, "export", export_id)):
        acted = (
            entry.format(*done)
            .replace("(user_id", "(on_behalf_of, user_id")
            .replace("values (", f"values ({user_id}, ")
        )
        await owner.execute(acted)
    await owner.execute("set role erp_api")
    await owner.execute(entry.format(other, "item", 1))


async def test_worker_names_the_owner_and_the_key_of_an_import_while_it_runs(
    database: Database, owner: asyncpg.Connection
) -> None:
    """Also while a cancel is on its way, of which the worker learns within half a second."""
    user_id, other = await make_user(database, Role.ADMIN), await make_user(database, Role.SUPER_ADMIN)
    job_id = uuid4()
    await owner.execute(
        "insert into import_jobs (id, user_id, dataset, spec, retention_hours, most_role, filename, file_bytes,"
        " api_key_id) values ($1, $2, 'items', '{}', 1, 'ADMIN', 'a.csv', 1, 7)",
        job_id,
        user_id,
    )
    entry = "insert into audit_log (user_id, api_key_id, action, entity, entity_id) values ({}, {}, 'a', '{}', '{}')"
    by_key = [entry.format(user_id, 7, "item", 1), entry.format(user_id, 7, "import", 1)]
    of_job = entry.format(user_id, "null", "import", job_id)
    never = [
        entry.format(user_id, 8, "item", 1),
        entry.format("null", 8, "item", 1),
        entry.format(other, 7, "item", 1),
        entry.format(user_id, 7, "stock", 1),
        entry.format(user_id, 7, "user", 1),
        entry.format(other, "null", "import", job_id),
        "update import_jobs set api_key_id = 8",
    ]
    assert await permitted(owner, "erp_worker", *by_key, entry.format("null", 7, "item", 1), of_job, *never) == [of_job]
    for status in ("running", "canceling"):
        await owner.execute("update import_jobs set status = $1", status)
        assert await permitted(owner, "erp_worker", *by_key, of_job, *never) == [*by_key, of_job]
    await owner.execute("update import_jobs set status = 'canceled'")
    assert await permitted(owner, "erp_worker", *by_key, *never) == []


SECRET = re.compile(r"hash|digest|secret|token|password|cipher|salt|otp")
HARMLESS = {"users.must_change_password", "users.password_expires_at", "users.password_set_at", "trail.digest"}


async def test_every_table_and_every_secret_has_its_line_in_the_grants(owner: asyncpg.Connection) -> None:
    """A new table works without a line, with more rights than it may need: so this asks for a decision."""
    columns = await owner.fetch(
        "select table_name::text, column_name::text from information_schema.columns where table_schema = 'public'"
    )
    tables = {table for table, _ in columns}
    assert [table for table in sorted(tables) if f'"{table}":' not in GRANTS] == []
    named = [f"{table}.{column}" for table, column in columns if SECRET.search(column)]
    assert [column for column in sorted(named) if column not in HARMLESS and f'"{column}":' not in GRANTS] == []


async def test_grants_follow_what_a_later_migration_adds(settings: Settings, owner: asyncpg.Connection) -> None:
    """Also a right that was given by hand goes, and a column that was added to what is append-only can be written."""
    await owner.execute(
        "alter table audit_log add column acting_for bigint; alter table users add column nickname text;"
        "create table notes (id bigint generated always as identity, at timestamptz default clock_timestamp(), a text);"
        "create trigger notes_append_only before update on notes for each statement execute function"
        " erp_refuse_change(); grant select (password_hash), delete on users to erp_reader"
    )
    await schema.migrate(settings.migration_database_url or "")
    assert await permitted(owner, "erp_reader", "select password_hash from users", "delete from users") == []
    assert (
        await permitted(owner, "erp_api", "update notes set a = ''", f"insert into notes (at) values ({LONG_AGO})")
        == []
    )
    await owner.execute("set role erp_api")
    await owner.execute(AUDIT.format(columns=", acting_for", values=", 1"))
    await owner.execute("select nickname from users")
    await owner.execute("insert into notes (a) values ('')")


async def test_migrating_needs_no_right_to_make_roles(cluster: Cluster) -> None:
    """As with a managed Postgres: the operator makes the roles, and the owner of the database only grants."""
    await as_owner(cluster, "create role plain_owner login", "create database plainly_owned owner plain_owner")
    await schema.migrate(cluster.owner_url("plainly_owned").replace("//postgres@", "//plain_owner@"))
    async with connected(cluster.role_url("erp_api", "plainly_owned")) as api:
        assert await api.fetchval("select count(*) from stock_ledger") == 0
    # a clone, as other tests have it, does not copy the rights on the database itself
    async with connected(cluster.owner_url("plainly_owned")) as owner:
        for role in EVERY:
            assert await permitted(owner, role, "create temporary table mine (id int)") == []
    await as_owner(cluster, "drop database plainly_owned", "drop role plain_owner")


async def test_processes_of_the_version_before_keep_their_rights(owner: asyncpg.Connection) -> None:
    """While a release rolls out, they connect as erp_app, and read and compare the hash in its column."""
    await owner.execute("set role erp_app")
    await owner.execute("select id, email, password_hash from users where lower(email) = lower('a@b.c')")
    await owner.execute("update users set last_login_at = now() where id = 1 and password_hash = 'x'")
    await owner.execute(AUDIT.format(columns=", user_id, before, after, reason, request_id, address",
                                     values=", null, null, null, null, null, null"))  # fmt: skip
    await owner.execute(DOCUMENT.format(columns=", user_id, reverses", values=", null, null"))


@pytest.mark.parametrize("role", ["erp_worker", "erp_reader"])
async def test_all_that_exports_and_reports_show_can_be_read(owner: asyncpg.Connection, role: RoleName) -> None:
    await owner.execute(f"set role {role}")
    for dataset in load(FEATURES, "datasets", Dataset):
        columns = ", ".join(column.sql for column in dataset.columns)
        await owner.execute(f"select {columns} from {dataset.source}")
    await owner.execute("select on_hand, b.value from stock_balances b join stock_ledger using (item_id)")
    await owner.execute("select version_num from alembic_version")


@pytest.mark.parametrize(
    "lock", ["update users set last_login_at = now() where {}", "select id from users where {} for no key update"]
)
async def test_password_that_is_reset_while_its_row_is_waited_for_no_longer_matches(
    database: Database, owner: asyncpg.Connection, settings: Settings, lock: str
) -> None:
    """A function that is not volatile would read the hash as it was before the wait, and the sign-in would go on."""
    user_id = await make_user(database, Role.VIEWER, password_hash="old")
    waiting = "select count(*) from pg_locks where not granted and pid = $1"
    async with connected(as_role(settings, "erp_api").database_url) as api:
        async with owner.transaction():
            await owner.execute("update users set password_hash = 'new' where id = $1", user_id)
            old = lock.format("id = $1 and erp_password_hash(id) = 'old'")
            attempt = asyncio.create_task(api.execute(old, user_id))

            async def waits() -> bool:
                return bool(await owner.fetchval(waiting, api.get_server_pid()))

            await eventually(waits)
        assert await attempt in ("UPDATE 0", "SELECT 0")
