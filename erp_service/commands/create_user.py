"""`erp create-user`: creates a user, such as the first one, whom nobody could create over HTTP."""

import asyncio

import click

from erp_service import errors
from erp_service.access.principals import command as by_command
from erp_service.access.roles import Role
from erp_service.auth import passwords, users
from erp_service.commands.database import SHORT_WAIT_SECONDS, exit_on_error, open_database
from erp_service.commands.terminal import entered_password, say
from erp_service.db.connections import wait_until_up
from erp_service.settings import Settings, load


@click.command("create-user")
@click.argument("email")
@click.option("--role", type=click.Choice([role.value for role in Role]), required=True)
@click.option("--name", default="", help="The full name; the e-mail if left out.")
def command(email: str, role: str, name: str) -> None:
    """Create a user. Asks for the password on a terminal, or else reads it from standard input."""
    with exit_on_error():
        password = entered_password(confirm=True)
        if weaknesses := passwords.weaknesses(password, email):
            raise errors.Invalid("The password " + ", and ".join(weaknesses) + ".")
        user_id = asyncio.run(_create_user(load(), email, name or email, Role(role), password))
        say(f"Created user {user_id}: {email}, {role}.")


async def _create_user(settings: Settings, email: str, full_name: str, role: Role, password: str) -> int:
    await wait_until_up(settings.listen_url, seconds=SHORT_WAIT_SECONDS)
    password_hash = passwords.hashed(password)
    async with open_database(settings, "erp create-user") as database, database.write() as db:
        user = await users.create_user(
            db, by_command("erp create-user"), email=email, full_name=full_name, role=role, password_hash=password_hash
        )
        return user.id
