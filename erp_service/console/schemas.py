"""What the console's session answers."""

from typing import Annotated

from msgspec import Meta

from erp_service.auth.schemas import Redacted


class ConsoleToken(Redacted, frozen=True):
    """An access token without its refresh token, which is in the cookie."""

    access_token: Annotated[str, Meta(description="for `Authorization: Bearer ...`")]
    expires_in: Annotated[int, Meta(description="how long it lives, in seconds")]
