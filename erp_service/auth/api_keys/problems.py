"""What the management of API keys may refuse. API users read the docstrings, at `/problems/{slug}`."""

from erp_service import errors


class KeyRoleTooHigh(errors.Refused):
    """An API key acts for whoever makes it, so its role can be no higher than theirs is at that moment.

    Give it your own role or a lower one: the lowest that is enough."""

    status, slug, title = 403, "api-key-role", "The role of the key is higher than yours"


class TooManyKeys(errors.Conflict):
    """The company has as many API keys as it may have. Revoke those that nobody uses: `last_used_at` says when each was
    used last. Keys that were revoked or have expired do not count."""

    slug, title = "too-many-api-keys", "There are too many API keys"
