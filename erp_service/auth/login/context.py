"""What one instance signs users in with."""

from uuid import UUID

import msgspec

from erp_service.access.revocations import Revocations
from erp_service.auth.passwords import Passwords
from erp_service.auth.second_factor.encryption import SecretBox
from erp_service.auth.tokens import Tokens
from erp_service.db.engine import Database
from erp_service.settings import Settings


class LoginContext(msgspec.Struct, frozen=True):
    settings: Settings
    database: Database
    passwords: Passwords
    tokens: Tokens
    revocations: Revocations
    secret_box: SecretBox

    def tell(self, ended: list[UUID]) -> None:
        """These sign-ins were ended, and that is committed. This instance knows it at once; others are told by a
        trigger."""
        for family in ended:
            self.revocations.add(family)
