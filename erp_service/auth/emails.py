"""When two e-mail addresses are the same person: decided here alone, and stored with each user as `email_key`.

Never by `lower()` of the database: what that does to `Ö` depends on the locale that the database was made with."""

import unicodedata

from erp_service.texts import Identifier, as_identifier


def email_key(email: str) -> str:
    """The form in which addresses are compared: a canonical caseless match (Unicode 15, section 3.13, D145), as a text
    in NFC.

    Mail systems may tell capitals of the part before the @ apart (RFC 5321, 2.4), but nobody uses that."""
    folded = unicodedata.normalize("NFD", unicodedata.normalize("NFD", email.strip()).casefold())
    # `İ` folds to an i with a second dot above it, which fonts do not show (soft dotted, Unicode 15, section 7.1)
    return unicodedata.normalize("NFC", folded.replace("i\u0307", "i"))


class Email(Identifier):
    """An e-mail address in a request body: one @ with something on both sides, as an identifier otherwise."""

    __slots__ = ()
    shortest = 3
    longest = 254  # RFC 5321, 4.5.3.1.3, without the angle brackets
    pattern = r"^[^@\s]+@[^@\s]+$"
    """For the OpenAPI document."""

    @staticmethod
    def checked(text: str) -> str:
        if " " in text or text.count("@") != 1 or text[0] == "@" or text[-1] == "@":
            raise ValueError("must be an e-mail address: one @, no blanks")
        return as_identifier(text)
