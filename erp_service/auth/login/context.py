"""What one instance signs users in with."""

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
