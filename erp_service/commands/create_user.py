"""`erp create-user`: creates a user, such as the first one, whom nobody could create over HTTP, and lets in a user who
has lost the second factor."""

import asyncio

import click

from erp_service import errors, validation
from erp_service.access.principals import command as by_command
from erp_service.access.roles import Role
from erp_service.auth import passwords, queries, users
from erp_service.auth.emails import Email
from erp_service.auth.schemas import FullName
from erp_service.auth.strength import rules
from erp_service.commands.database import SHORT_WAIT_SECONDS, exit_on_error, open_database, wait_for_database
from erp_service.commands.terminal import entered_password, say
from erp_service.settings import Settings, load


@click.command("create-user")
@click.argument("email")
@click.option("--role", type=click.Choice([role.value for role in Role]), help="Needed for a new user.")
@click.option("--name", default="", help="The full name; the e-mail if left out.")
@click.option("--temporary", is_flag=True, help="The password must be changed at the first sign-in, within 7 days.")
@click.option("--reset-totp", is_flag=True, help="Remove the second factor of a user who has lost it.")
def command(email: str, role: str | None, name: str, temporary: bool, reset_totp: bool) -> None:
    """Create a user. Asks for the password on a terminal, or else reads it from standard input.

    With --reset-totp, no user is created: the one with this e-mail signs in with
    the password alone again, and all their sign-ins end. For whoever has lost the
    device and the recovery codes, and nobody else can reset it.

    \b
    Exit status:
      0    the user is created, or has no second factor any more
      1    the e-mail, the name or the password is refused, there is no such user,
           or the database cannot be used
      2    the command line is wrong, or there is no password on standard input
    """
    with exit_on_error():
        if reset_totp:
            if role or name or temporary:
                raise click.UsageError("--reset-totp takes no other option: the user is there already.")
            had_one = asyncio.run(_reset_totp(load(), email))
            say(f"{email} {'has no second factor any more' if had_one else 'had no second factor'}.")
            return
        if role is None:
            raise click.UsageError("Missing option '--role'.")
        _check(email, name)
        password = entered_password(confirm=True)
        if weaknesses := rules.weaknesses(password, email, full_name=name):
            raise errors.Invalid("The password " + ", and ".join(weaknesses) + ".")
        user_id = asyncio.run(_create_user(load(), email, name or email, Role(role), password, temporary))
        say(f"Created user {user_id}: {email}, {role}.")


def _check(email: str, name: str) -> None:
    """The rules of the API, before a password is entered."""
    faults = [*validation.faults(Email, email), *(validation.faults(FullName, name) if name else ())]
    if faults:
        raise errors.Invalid(f"No user can be created as {email}.", *faults)


async def _create_user(
    settings: Settings, email: str, full_name: str, role: Role, password: str, temporary: bool
) -> int:
    await wait_for_database(settings.listen_url, seconds=SHORT_WAIT_SECONDS)
    password_hash = passwords.hashed(password)
    async with open_database(settings, "erp create-user") as database, database.write() as db:
        user = await users.create_user(
            db,
            by_command("erp create-user"),
            email=email,
            full_name=full_name,
            role=role,
            password_hash=password_hash,
            temporary=temporary,
        )
        return user.id


async def _reset_totp(settings: Settings, email: str) -> bool:
    await wait_for_database(settings.listen_url, seconds=SHORT_WAIT_SECONDS)
    async with open_database(settings, "erp create-user") as database, database.write() as db:
        user_id = await queries.user_id_by_email(db, email)
        return await users.reset_second_factor(
            db, by_command("erp create-user"), user_id, "erp create-user --reset-totp"
        )
