"""What sign-in and the management of users refuse, besides what every endpoint may."""

from erp_service import errors


class WrongCredentials(errors.Refused):
    """No active user has this e-mail with this password. The answer does not say which of the two is wrong.

    After too many failures the answer is 429 for a while, also for the right password."""

    status, slug, title = 401, "wrong-credentials", "E-mail or password is wrong"


class RefreshRefused(errors.Refused):
    """The refresh token is unknown, expired, or used already, or its sign-in was ended: by logging out, by a change of
    role or password, or because one of its tokens was used twice.

    Each refresh token works once; keep the new one from each answer. A second use ends the whole sign-in, since it
    means that somebody else may hold a copy. Sign in again at `POST /api/v1/auth/login`."""

    status, slug, title = 401, "refresh-token-refused", "The refresh token is no longer good"


class AddressRefused(errors.Refused):
    """The `signature` of the address is not good: it was changed or cut, belongs to another address, its five minutes
    are over, or the rights of the person it was made for have changed since.

    Ask for a new address at `POST /api/v1/exports/jobs/{id}/download-url`."""

    status, slug, title = 403, "signed-address-refused", "The signed address is not good"


class RoleOutOfReach(errors.Refused):
    """An ADMIN handles users who are VIEWER or STAFF, and grants these two roles; only a SUPER_ADMIN handles others."""

    status, slug, title = 403, "role-out-of-reach", "Your role does not reach that far"


class OwnAccount(errors.Refused):
    """Nobody deactivates themselves or changes their own role: somebody else with the right to do so has to.

    For your own password use `PUT /api/v1/auth/me/password`, which asks for the old one."""

    status, slug, title = 403, "own-account", "Not on your own account"


class LastSuperAdmin(errors.Refused):
    """This user is the last active SUPER_ADMIN; without one, nobody could ever make another.

    Give somebody else the role first."""

    status, slug, title = 409, "last-super-admin", "The last SUPER_ADMIN stays"


class EmailTaken(errors.Refused):
    """Another user has this e-mail, perhaps a deactivated one, perhaps with other capitals."""

    status, slug, title = 409, "email-taken", "The e-mail is in use"
