"""The Procrastinate app that gathers every feature's tasks: app.py's twin.

The entry point of a foreign command, `procrastinate --app=erp_service.worker.app worker`, and therefore the only
module that reads settings when it is imported."""
