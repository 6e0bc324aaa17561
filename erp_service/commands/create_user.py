"""`erp create-user`: creates a user, such as the first one, whom nobody could create over HTTP."""

import asyncio

import click

from erp_service import errors, validation
from erp_service.access.principals import command as by_command
from erp_service.access.roles import Role
from erp_service.auth import passwords, users
from erp_service.auth.emails import Email
from erp_service.auth.schemas import FullName
from erp_service.auth.strength import rules
from erp_service.commands.database import SHORT_WAIT_SECONDS, exit_on_error, open_database, wait_for_database
from erp_service.commands.terminal import entered_password, say
from erp_service.settings import Settings, load


@click.command("create-user")
@click.argument("email")
@click.option("--role", type=click.Choice([role.value for role in Role]), required=True)
@click.option("--name", default="", help="The full name; the e-mail if left out.")
def command(email: str, role: str, name: str) -> None:
    """Create a user. Asks for the password on a terminal, or else reads it from standard input.

    \b
    Exit status:
      0    the user is created
      1    the e-mail, the name or the password is refused, or the database cannot
           be used
      2    the command line is wrong, or there is no password on standard input
    """
    with exit_on_error():
        _check(email, name)
        password = entered_password(confirm=True)
        if weaknesses := rules.weaknesses(password, email, full_name=name):
            raise errors.Invalid("The password " + ", and ".join(weaknesses) + ".")
        user_id = asyncio.run(_create_user(load(), email, name or email, Role(role), password))
        say(f"Created user {user_id}: {email}, {role}.")


def _check(email: str, name: str) -> None:
    """The rules of the API, before a password is entered."""
    faults = [*validation.faults(Email, email), *(validation.faults(FullName, name) if name else ())]
    if faults:
        raise errors.Invalid(f"No user can be created as {email}.", *faults)


async def _create_user(settings: Settings, email: str, full_name: str, role: Role, password: str) -> int:
    await wait_for_database(settings.listen_url, seconds=SHORT_WAIT_SECONDS)
    password_hash = passwords.hashed(password)
    async with open_database(settings, "erp create-user") as database, database.write() as db:
        user = await users.create_user(
            db, by_command("erp create-user"), email=email, full_name=full_name, role=role, password_hash=password_hash
        )
        return user.id
