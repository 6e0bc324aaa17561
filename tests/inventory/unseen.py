"""Texts that look like another one, and the fault that is named."""

from collections.abc import Mapping

import httpx

# on paper, each is `AB 1`
UNSEEN = {
    "A\u200bB 1": "has an invisible character (U+200B) at position 2",
    "AB\u00a01": "has a blank other than the plain one (U+00A0) at position 3",
    "AB  1": "has two blanks in a row at position 3",
    "AB 1 ": "ends with a blank",
    "AB 1\ufe0f": "has an invisible character (U+FE0F) at position 5",
    "AB 1\U000e0041\U000e007f": "has an invisible character (U+E0041) at position 5",
    "AB 1\u034f": "has an invisible character (U+034F) at position 5",
    "AB 1\u3164": "has an invisible character (U+3164) at position 5",
}


def only_fault(answer: httpx.Response) -> Mapping[str, str]:
    assert answer.status_code == 422, answer.text
    (fault,) = answer.json()["errors"]
    return dict(fault)
