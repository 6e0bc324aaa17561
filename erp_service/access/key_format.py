"""The text of an API key: `erp_`, 32 random characters, and 6 characters that are the CRC-32 of these.

The form of GitHub's tokens ("Behind GitHub's new authentication token formats", 2021), which scanners for secrets know:
they find a key by its prefix and tell it from a text that only looks like one by its checksum. The same lets us refuse
a key that was cut or misread without a look-up."""

import hashlib
import re
import secrets
import zlib

PREFIX = "erp_"
_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_RANDOM = 32  # characters: 190 bits
_CHECKSUM = 6
_HINT = 4  # characters of the random ones, which leave 166 bits secret

PATTERN = rf"{PREFIX}[0-9A-Za-z]{{{_RANDOM + _CHECKSUM}}}"
"""A regular expression for scanners; ops/security.md has it."""

_KEY = re.compile(PATTERN, re.ASCII)
MASK = PREFIX + "********"


def new_key() -> str:
    random = "".join(secrets.choice(_DIGITS) for _ in range(_RANDOM))
    return PREFIX + random + _checksum(random)


def is_whole(text: str) -> bool:
    """Whether the text has the form of a key, and its checksum is right."""
    if _KEY.fullmatch(text) is None:
        return False
    return text[-_CHECKSUM:] == _checksum(text[len(PREFIX) : -_CHECKSUM])


def digest(key: str) -> bytes:
    """What is stored of a key. Its random bits cannot be guessed, so no slow hash and no salt is needed."""
    return hashlib.sha256(key.encode()).digest()


def hint(key: str) -> str:
    """The first characters, by which people recognise the key."""
    return key[: len(PREFIX) + _HINT]


def without_keys(text: str) -> str:
    """The text with every key in it masked."""
    return _KEY.sub(MASK, text) if PREFIX in text else text


def _checksum(random: str) -> str:
    number, digits = zlib.crc32(random.encode()), ""
    for _ in range(_CHECKSUM):
        number, digit = divmod(number, 62)
        digits = _DIGITS[digit] + digits
    return digits
