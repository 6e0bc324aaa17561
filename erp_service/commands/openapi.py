"""`erp openapi`: prints the contract of the API, for machines."""

import json

import click

from erp_service.app import create_app
from erp_service.services import build_services
from erp_service.settings import Settings
from erp_service.web.openapi.document import document_of


@click.command("openapi")
def command() -> None:
    """Print the OpenAPI 3.1 document, for client generators and contract tests.

    It is the document that a running service has at /schema/openapi.json. Needs no database and no settings.
    """
    # the document does not depend on the settings, and no token is ever signed with this secret
    settings = Settings(database_url="postgresql://", jwt_secret="0123456789abcdefghijklmnopqrstuvwxyz")  # noqa: S106
    document = document_of(create_app(build_services(settings)))
    click.echo(json.dumps(document, indent=2))
