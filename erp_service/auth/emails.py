"""When two e-mail addresses are the same person: decided here alone, and stored with each user as `email_key`.

Never by `lower()` of the database: what that does to `Ö` depends on the locale that the database was made with."""

import unicodedata


def email_key(email: str) -> str:
    """The form in which addresses are compared: a canonical caseless match (Unicode 15, section 3.13, D145), as a text
    in NFC.

    Mail systems may tell capitals of the part before the @ apart (RFC 5321, 2.4), but nobody uses that."""
    folded = unicodedata.normalize("NFD", unicodedata.normalize("NFD", email.strip()).casefold())
    # `İ` folds to an i with a second dot above it, which fonts do not show (soft dotted, Unicode 15, section 7.1)
    return unicodedata.normalize("NFC", folded.replace("i\u0307", "i"))
