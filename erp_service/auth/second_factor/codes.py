"""One-time codes: time-based ones of a device (TOTP, RFC 6238: SHA-1, 6 digits, 30 s), and recovery codes."""

import base64
import hashlib
import hmac
import re
import secrets

import pyotp

STEP_SECONDS = 30
WINDOW = 1
"""Steps on each side of the present one whose codes are taken too (RFC 6238, 5.2), for clocks that differ."""

RECOVERY_CODES = 10
_RECOVERY_BYTES = 15
"""120 bits. Below 112, such codes would have to be hashed as passwords are (NIST SP 800-63B, 3.1.2.2)."""

ISSUER = "ERP"
"""What the device shows above the e-mail, for a company without a name."""

LONGEST_ISSUER = 50
"""Characters. The address has the name twice, with up to 12 bytes for a character, and a QR code holds 2,953 bytes."""

_TOTP = re.compile(r"[0-9]{6}", re.ASCII)
_SEPARATORS = re.compile(r"[\s-]+")


def new_secret() -> str:
    """160 random bits (RFC 4226, 4, R6) in base32."""
    return pyotp.random_base32()


def otpauth_address(secret: str, email: str, company_name: str | None) -> str:
    """The address that a device reads, mostly as a QR code (Key Uri Format of Google Authenticator)."""
    # by that format a colon ends the issuer
    issuer = " ".join((company_name or "").replace(":", " ").split())[:LONGEST_ISSUER].rstrip()
    return pyotp.TOTP(secret).provisioning_uri(name=email, issuer_name=issuer or ISSUER)


def plain(typed: str) -> str:
    """What was typed without blanks and hyphens, which people type between groups."""
    return _SEPARATORS.sub("", typed).lower()


def is_totp(code: str) -> bool:
    """The code is one of a device, by its form; else it can be a recovery code."""
    return _TOTP.fullmatch(code) is not None


def matching_step(secret: str, code: str, *, now: float, after: int) -> int | None:
    """The time step of which `code` is the code, if that is not before the window, nor after it, and is greater than
    `after`; `now` is in Unix time.

    Every step is compared, each in constant time, so that the time reveals nothing."""
    totp, present = pyotp.TOTP(secret), int(now) // STEP_SECONDS
    steps = range(max(present - WINDOW, 0), present + WINDOW + 1)
    matches = [step for step in steps if hmac.compare_digest(totp.generate_otp(step).encode(), code.encode())]
    return next((step for step in matches if step > after), None)


def new_recovery_codes() -> list[str]:
    """In lower-case base32, in groups of four."""
    return [_grouped(base64.b32encode(secrets.token_bytes(_RECOVERY_BYTES)).decode()) for _ in range(RECOVERY_CODES)]


def _grouped(code: str) -> str:
    return "-".join(code[start : start + 4] for start in range(0, len(code), 4)).lower()


def recovery_digest(code: str) -> bytes:
    """What is stored of a recovery code, as `plain` returns it."""
    return hashlib.sha256(b"recovery code:" + code.encode(errors="surrogatepass")).digest()
