"""The form of a key, by which scanners and the service recognise it."""

import re

from hypothesis import given
from hypothesis import strategies as st

from erp_service.access import key_format


def test_each_key_is_new_whole_and_of_the_documented_form() -> None:
    keys = {key_format.new_key() for _ in range(200)}
    assert len(keys) == 200
    for key in keys:
        assert re.fullmatch(key_format.PATTERN, key)
        assert key_format.is_whole(key)
        assert len(key_format.digest(key)) == 32


def test_the_checksum_is_that_of_github() -> None:
    """The CRC-32 of the random characters as base62, with zeros before it: GitHub's own example, `ghp_zQWB...`."""
    assert key_format._checksum("zQWBuTSOoRi4A9spHcVY5ncnsDkxkJ") == "0mLq17"


@given(st.integers(4, 41), st.sampled_from("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"))
def test_one_wrong_character_is_noticed(place: int, character: str) -> None:
    key = key_format.new_key()
    changed = key[:place] + character + key[place + 1 :]
    assert key_format.is_whole(changed) == (changed == key)


def test_what_is_longer_shorter_or_of_other_characters_is_no_key() -> None:
    key = key_format.new_key()
    for other in (key[:-1], key + "0", key + "\n", " " + key, key.replace("erp_", "ERP_"), key[:10] + "é" + key[11:]):
        assert not key_format.is_whole(other), other


def test_a_key_inside_a_text_is_masked() -> None:
    key = key_format.new_key()
    assert key_format.without_keys(f"sent {key}, and {key}.") == "sent erp_********, and erp_********."
    assert key_format.without_keys("erp_service and erp_api stay") == "erp_service and erp_api stay"
