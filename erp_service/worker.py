"""The Procrastinate app of this project: `procrastinate --app=erp_service.worker.app worker`.

The entry point of a foreign command, and therefore the only module that reads settings when it is imported."""

from erp_service.settings import load
from erp_service.working import build

app = build(load())
