"""The settings that tests run with."""

from pathlib import Path
from typing import Literal

import msgspec

from erp_service.settings import Settings
from erp_service.standalone.postgres import Cluster

SECRET = "a-secret-for-tests-only-0123456789-abcdefghij"


def settings_for(cluster: Cluster, database_name: str, tmp_path: Path) -> Settings:
    """With the role `erp_app`, for what a test does itself. What the tests start connects as the role of its own kind,
    by `as_role`: what a grant is missing for fails there."""
    return Settings(
        database_url=cluster.app_url(database_name),
        migration_database_url=cluster.owner_url(database_name),
        environment="development",
        jwt_secret=SECRET,
        export_store=f"file://{tmp_path}/exports",
        heartbeat_seconds=0.5,
        stalled_seconds=3,
        # most tests have one user for everything, who must not be stopped half way: those of quotas set their own
        sign_ins_per_account=1_000_000,
        log_format="text",
        log_level="warning",
    )


def as_role(settings: Settings, role: Literal["erp_api", "erp_worker"]) -> Settings:
    """The same for a process that connects to the primary as this role."""

    def of_role(url: str) -> str:
        return url.replace("//erp_app@", f"//{role}@")

    queue = settings.queue_database_url
    return msgspec.structs.replace(
        settings, database_url=of_role(settings.database_url), queue_database_url=queue and of_role(queue)
    )
