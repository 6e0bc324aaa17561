"""The Procrastinate app of this project: `procrastinate --app=erp_service.worker.app worker`.

The entry point of a foreign command, and therefore the only module that reads settings when it is imported."""

from erp_service.processes.worker import build
from erp_service.settings import load

app = build(load())
