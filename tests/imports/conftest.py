from pathlib import Path
from typing import Any

import pytest

from erp_service.access.principals import system
from erp_service.imports import service
from erp_service.imports.csv_table import AS_OURS
from erp_service.imports.files.dialect import Dialect
from erp_service.imports.service import Kind, Loaded
from erp_service.settings import Settings
from tests.imports.loading import Load


@pytest.fixture
def load(settings: Settings, tmp_path: Path) -> Load:
    async def load(kind: Kind, content: str | bytes, dialect: Dialect = AS_OURS, **more: Any) -> Loaded:
        path = tmp_path / "file.csv"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return await service.load(settings.database_url, kind, path, who=system("test"), dialect=dialect, **more)

    return load
