"""psql, whose files exports are compared with."""

import subprocess
from collections.abc import Callable
from pathlib import Path

from erp_service.standalone.postgres import Cluster

Psql = Callable[[str], bytes]
"""What `\\copy (QUERY) to FILE csv header` writes."""


def psql_of(cluster: Cluster, database_name: str, directory: Path) -> Psql:
    def copied(query: str) -> bytes:
        target = directory / "psql.csv"
        command = f"\\copy ({query}) to '{target}' csv header"
        # as unlike the service's own session as they can be: none of them may show in the file
        environment = {"PGTZ": "Pacific/Auckland", "PGDATESTYLE": "SQL, DMY", "PGCLIENTENCODING": "UTF8"}
        subprocess.run(
            [cluster.bin / "psql", "-X", "-d", cluster.owner_url(database_name), "-c", command],
            check=True,
            env=environment,
            capture_output=True,
        )
        return target.read_bytes()

    return copied
