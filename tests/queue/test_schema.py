"""The copy of Procrastinate's schema in the migrations."""

from pathlib import Path

from procrastinate.schema import SchemaManager

CARRIED = Path(__file__).parents[2] / "migrations" / "procrastinate_3_10.sql"


def test_carried_schema_is_the_installed_versions() -> None:
    """If not: keep the carried file, and add a migration with upstream's new files under `sql/migrations`."""
    assert CARRIED.read_text() == SchemaManager.get_schema()


def test_no_migration_of_upstream_is_missing() -> None:
    newest = max(path.name for path in Path(SchemaManager.get_migrations_path()).glob("*.sql"))
    assert newest.startswith("03.04.00_50_"), f"the schema has changed since: {newest}"
