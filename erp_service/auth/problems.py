"""The problems of sign-in and of the management of users, in addition to those that every endpoint has."""

from erp_service import errors


class WrongCredentials(errors.Refused):
    """No active user has this e-mail with this password. The answer does not say which of the two is wrong.

    After too many failures the answer is 429 for a while, also for the right password."""

    status, slug, title = 401, "wrong-credentials", "E-mail or password is wrong"


class SecondFactorNeeded(errors.Refused):
    """E-mail and password are right, and this user has a second factor: send the same form again with its code in
    `totp`. A recovery code is taken, too."""

    status, slug, title = 401, "second-factor-needed", "The code of your second factor is needed"


class SecondFactorWrong(errors.Refused):
    """E-mail and password are right, and the code of the second factor is not: it is mistyped, too old, or was used
    before. Each code works once, so wait for the next one.

    If each is refused, the clock of your device may be wrong. Wrong codes are counted and delayed as wrong passwords
    are."""

    status, slug, title = 401, "second-factor-wrong", "The code of your second factor is not valid"


class TemporaryPasswordExpired(errors.Refused):
    """The password is right, but an administrator has set it, and it was not changed within 7 days.

    Ask a SUPER_ADMIN to reset it again."""

    status, slug, title = 401, "temporary-password-expired", "The temporary password has expired"


class SecondFactorKept(errors.Refused):
    """Your role must have a second factor, by the settings of the company, so that it cannot be removed.

    For another device, replace it: `POST /api/v1/auth/me/totp` with a code of the present one."""

    status, slug, title = 409, "second-factor-kept", "Your role must have a second factor"


class NoSecondFactor(errors.Refused):
    """You have no second factor, or have begun none in the last 30 minutes that a code could confirm.

    Begin with `POST /api/v1/auth/me/totp`."""

    status, slug, title = 409, "no-second-factor", "There is no second factor"


class RefreshRefused(errors.Refused):
    """The refresh token is unknown, expired or already used, or its sign-in was ended: by signing out, by a change of
    role or password, or because one of its tokens was used twice.

    Each refresh token works once; keep the new one from each answer. A second use ends the whole sign-in, since it
    means that somebody else may hold a copy. Sign in again at `POST /api/v1/auth/login`."""

    status, slug, title = 401, "refresh-token-refused", "The refresh token is not valid"


class AddressRefused(errors.Refused):
    """The `signature` of the URL is not valid: it was changed or cut, it belongs to another URL, its five minutes are
    over, or the user for whom it was signed has signed out or has other rights since.

    Get a new URL from `POST /api/v1/exports/jobs/{id}/download-url`."""

    status, slug, title = 403, "signed-address-refused", "The signed URL is not valid"


class RoleOutOfReach(errors.Refused):
    """An ADMIN may change users who are VIEWER or STAFF, and may grant these two roles. Only a SUPER_ADMIN may change
    other users or grant other roles."""

    status, slug, title = 403, "role-out-of-reach", "Your role may not manage that user or role"


class OwnAccount(errors.Refused):
    """Nobody can deactivate themselves or change their own role: somebody else who may do so has to.

    For your own password use `PUT /api/v1/auth/me/password`, which asks for the old one."""

    status, slug, title = 403, "own-account", "Not allowed on your own account"


class LastSuperAdmin(errors.Refused):
    """This user is the last active SUPER_ADMIN; without one, nobody could grant that role again.

    Give somebody else the role first."""

    status, slug, title = 409, "last-super-admin", "The last SUPER_ADMIN cannot be removed"


class EmailTaken(errors.Refused):
    """Another user has this e-mail, who may be deactivated. Upper and lower case count as the same."""

    status, slug, title = 409, "email-taken", "The e-mail is in use"
