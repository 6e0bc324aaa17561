"""What the console calls the types of events."""

import re

from erp_service.audit.trail_queries import known_types
from erp_service.console.routes import ASSETS

ALIKE = {"export", "import", "webhook"}
"""The same word in both languages."""


def test_each_part_of_the_name_of_a_type_has_a_german_word_and_no_word_is_left_over() -> None:
    """English reads as the name stands, but for a few."""
    parts = {part for name in known_types() for part in name.split(".")}
    assert words_of("de") == parts - ALIKE
    assert words_of("en") <= parts


def words_of(language: str) -> set[str]:
    text = re.search(r'"audit.words": "(.*)"', ASSETS.named(f"texts/{language}.js").body.decode())
    assert text is not None
    return {pair.split("=")[0] for pair in text[1].split(", ")}
