"""`erp create-user`: a user, without one who could make it."""

import asyncio

import click

from erp_service import errors, settings
from erp_service.access.principals import system
from erp_service.access.roles import Role
from erp_service.auth import passwords
from erp_service.auth.users import create_user
from erp_service.commands.database import SHORT_WAIT_SECONDS, exit_on_error
from erp_service.commands.terminal import entered_password, say
from erp_service.db.connections import wait_until_up
from erp_service.db.engine import Database
from erp_service.settings import Settings


@click.command("create-user")
@click.argument("email")
@click.option("--role", type=click.Choice([role.value for role in Role]), required=True)
@click.option("--name", default="", help="The full name; the e-mail if left out.")
def command(email: str, role: str, name: str) -> None:
    """Make a user. Asks for the password, or reads it from standard input when that is no terminal."""
    with exit_on_error():
        password = entered_password(confirm=True)
        if faults := passwords.weaknesses(password, email):
            raise errors.Invalid("The password " + ", and ".join(faults) + ".")
        user_id = asyncio.run(_create_user(settings.load(), email, name or email, Role(role), password))
        say(f"Made user {user_id}: {email}, {role}.")


async def _create_user(loaded: Settings, email: str, name: str, role: Role, password: str) -> int:
    await wait_until_up(loaded.listen_url, seconds=SHORT_WAIT_SECONDS)
    password_hash = passwords.hashed(password)
    database = Database(loaded, name="erp create-user")
    try:
        async with database.write() as db:
            made = await create_user(
                db, system("erp create-user"), email=email, full_name=name, role=role, password_hash=password_hash
            )
            return made.id
    finally:
        await database.close()
