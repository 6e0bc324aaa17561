"""The settings that tests run with."""

from pathlib import Path

from erp_service.settings import Settings
from erp_service.standalone.postgres import Cluster

SECRET = "a-secret-for-tests-only-0123456789-abcdefghij"


def settings_for(cluster: Cluster, database_name: str, tmp_path: Path) -> Settings:
    """The app connects as `erp_app`, which owns nothing: what a grant is missing for fails here."""
    return Settings(
        database_url=cluster.app_url(database_name),
        migration_database_url=cluster.owner_url(database_name),
        environment="development",
        jwt_secret=SECRET,
        export_store=f"file://{tmp_path}/exports",
        heartbeat_seconds=0.5,
        stalled_seconds=3,
        log_format="text",
        log_level="warning",
    )
