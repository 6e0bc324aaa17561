"""The Procrastinate app of this project: `procrastinate --app=erp_service.worker.app worker`.

Procrastinate's own command imports it, so this is the only module that reads the settings at import."""

from erp_service.observability.exception_text import print_uncaught
from erp_service.processes.worker import build
from erp_service.settings import load

print_uncaught()
app = build(load())
