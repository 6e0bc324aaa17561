"""Slows down the guessing of passwords, across all instances: each attempt is counted before its password is hashed,
and a success takes its count back.

No stranger can lock an account for its owner. Attempts are refused by counts of networks only, and a network from which
the account has signed in before has a count of its own, which nothing that happens elsewhere changes:

* one account from one customer's network: after `login_failures_per_account` attempts each must wait twice as long as
  the one before, up to 15 minutes;
* for a network that the account has never signed in from, also: the customer's and the site's attempts on all accounts
  (one password tried on every account), and the site's and the provider's on this account (an IPv6 site has 256 of the
  customers' networks, a provider 65,536 sites).

When an account is guessed at from everywhere, it is not locked: each network that is new to it gets one attempt before
it must wait, instead of ten. So 1,000 addresses of a botnet have 9,000 guesses in the first hour and 4,000 in each
later one, at a password that is on no list, and the owner's first attempt on a new network is still taken. NIST SP
800-63B (3.2.2) would rather end the password after 100 failures, which lets anybody lock an account.

Elsewhere, no answer depends on whether the account exists. Who shares the owner's network can make the owner wait
there, and can learn that the account has signed in there.
"""

import hashlib
from typing import NamedTuple

from erp_service.auth.emails import email_key
from erp_service.auth.login.networks import Networks
from erp_service.db.engine import Database
from erp_service.db.outages import DATABASE_ERRORS
from erp_service.db.sessions import AutocommitSession
from erp_service.settings import Settings
from erp_service.web import rate_limits
from erp_service.web.rate_limits import Delays, Window

LONGEST_DELAY_SECONDS = 900
LONGEST_CODE_DELAY_SECONDS = 3600
MOST_CONFIRMATIONS = 10
_FIRST_DELAY_SECONDS = 15
_MINUTE_SECONDS = 60
_WINDOW_SECONDS = 300
_SITE_SECONDS = 900
_HOUR_SECONDS = 3600

SITE_FACTOR = 3
"""How many times as many attempts a site has on one account as a customer, in 15 minutes."""

ACCOUNT_FACTOR = 10
"""The same for a provider, in an hour; so many from everywhere, and new networks get one attempt instead of ten."""

ALL_ACCOUNTS_FACTOR = 10
"""How many times as many attempts on all accounts a site has as a customer."""


class Attempt(NamedTuple):
    """What an attempt is counted under. `known` says that the account has signed in from the customer's network."""

    account: str
    networks: Networks
    known: bool

    @property
    def delayed(self) -> str:
        return f"login account {'known ' if self.known else ''}network:{self.account} {self.networks.customer}"

    @property
    def everywhere(self) -> str:
        return f"login account:{self.account}"

    def windows(self, settings: Settings) -> list[Window]:
        if self.known:
            return []
        per_account, per_address = settings.login_failures_per_account, settings.login_failures_per_address
        customer, site, provider = self.networks
        of_site, of_provider = f"login account site:{self.account} {site}", f"login account provider:{self.account}"
        return [
            Window(f"login network:{customer}", per_address, _WINDOW_SECONDS),
            Window(f"login site:{site}", per_address * ALL_ACCOUNTS_FACTOR, _WINDOW_SECONDS),
            Window(of_site, per_account * SITE_FACTOR, _SITE_SECONDS),
            Window(f"{of_provider} {provider}", per_account * ACCOUNT_FACTOR, _HOUR_SECONDS),
            Window(self.everywhere, None, _HOUR_SECONDS),
        ]


def attempt_on(email: str, networks: Networks, *, known: bool) -> Attempt:
    # a hash, since people type passwords into the wrong field: what was typed must not be stored
    return Attempt(hashlib.sha256(email_key(email).encode()).hexdigest()[:32], networks, known)


async def count(db: AutocommitSession, settings: Settings, attempt: Attempt) -> None:
    """Raises errors.TooMany when the attempt comes too early, and whatever the database raises: without counts, no
    attempt may be taken."""
    free = settings.login_failures_per_account
    if not attempt.known and await rate_limits.uses(db, attempt.everywhere) > free * ACCOUNT_FACTOR:
        free = 1
    # from narrow to wide: what one refuses does not use up the wider ones, which are others' too
    delays = Delays(free, _FIRST_DELAY_SECONDS, LONGEST_DELAY_SECONDS, forgotten_after=_HOUR_SECONDS)
    await rate_limits.delay(db, attempt.delayed, delays)
    await rate_limits.count(db, attempt.windows(settings))


async def reset_after_success(database: Database, settings: Settings, attempt: Attempt) -> None:
    """The network's delay for this account starts again at zero. The others get only this attempt back: otherwise a
    guesser with an account of their own could clear them at will."""
    await rate_limits.give_back(
        database, "login", forget=attempt.delayed, keys=[window.key for window in attempt.windows(settings)]
    )


async def count_code(database: Database, settings: Settings, user_id: int, attempt: Attempt) -> None:
    """For a code of a second factor, before it is looked at, and after the password was right. Raises errors.TooMany,
    errors.Unavailable.

    Six digits are a million: with the attempts that the password's limits leave to a botnet, they would be guessed in
    days. Who gets here knows the password, so that counting by account lets no stranger lock anybody out. From all
    networks that are new to the account together, each code after `login_failures_per_account` waits twice as long as
    the one before, up to an hour: with three codes that are valid at once, who goes on for a day succeeds once in
    14,000 times. A network that the account knows has a count of its own, which a wrong code does not reset."""
    if attempt.known:
        return
    delays = Delays(
        settings.login_failures_per_account,
        _FIRST_DELAY_SECONDS,
        LONGEST_CODE_DELAY_SECONDS,
        forgotten_after=_HOUR_SECONDS,
    )
    try:
        async with database.autocommit() as db:
            await rate_limits.delay(db, _codes_of(user_id), delays)
    except DATABASE_ERRORS as exc:
        raise rate_limits.uncounted() from exc


async def reset_codes(database: Database, user_id: int) -> None:
    """After a right one: its delay starts again at zero."""
    await rate_limits.give_back(database, "second factor", forget=_codes_of(user_id), keys=[])


def _codes_of(user_id: int) -> str:
    return f"second factor:{user_id}"


async def count_enrolment(database: Database, user_id: int) -> None:
    """A code that confirms a new second factor. Raises errors.TooMany, errors.Unavailable."""
    most, seconds = MOST_CONFIRMATIONS, _SITE_SECONDS
    await rate_limits.take(database, "second factor confirmation", user_id, most=most, seconds=seconds)


async def count_sign_in(database: Database, settings: Settings, user_id: int) -> None:
    """Each sign-in that succeeds leaves an audit entry and a family of tokens for good. Only who knows the password can
    use this up. Raises errors.TooMany, errors.Unavailable."""
    most = settings.sign_ins_per_account
    await rate_limits.take(database, "sign-ins", user_id, most=most, seconds=_MINUTE_SECONDS)
