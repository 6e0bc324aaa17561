"""Runs the migrations on the connection that erp_service.db.migrate gives: one transaction, one migrator at a time."""

from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

from alembic import context
from sqlalchemy import text

from erp_service.db import locks
from erp_service.db.base import Base
from erp_service.db.migrate import LOCK_SECONDS, script
from erp_service.features import FEATURES
from erp_service.registry.feature import load_models

# Grants are made again after every run, so that no migration can forget a table or a column.
_GRANTS = (Path(__file__).parent / "grants.sql").read_text()


# Nothing uses them any more; they stay for the version before, until the next release drops them.
_LEFT_BEHIND = {("stock_balances", "value"), ("stock_balances", "last_average")}


def ours(name: str | None, kind: str, parents: MutableMapping[Any, str | None]) -> bool:
    """Procrastinate's tables are its own, and queue_* hang on them: autogenerate must not see them."""
    if kind == "column":
        return (parents.get("table_name"), name) not in _LEFT_BEHIND
    return not (kind == "table" and (name or "").startswith(("procrastinate_", "queue_")))


load_models(FEATURES)
connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=Base.metadata,
    include_name=ours,
    compare_type=True,
    compare_server_default=True,
    transaction_per_migration=False,
)
with context.begin_transaction():
    # of two hosts that run `erp migrate` at once, the second waits, then finds nothing to do
    connection.execute(locks.statement(locks.MIGRATION))
    # only now: the other host may need longer for its migrations than any lock of theirs may take
    lock_seconds = context.config.attributes.get("lock_seconds", LOCK_SECONDS)
    timeout = {"milliseconds": f"{lock_seconds * 1000:.0f}"}
    connection.execute(text("select set_config('lock_timeout', :milliseconds, true)"), timeout)
    context.run_migrations()
    if context.config.attributes.get("grants", True):
        script(connection, _GRANTS)
