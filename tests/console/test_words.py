"""What the console calls the types of events."""

from erp_service.audit.trail_queries import known_types
from tests.console.test_assets import texts_of

ALIKE = {"export", "import", "webhook"}
"""The same word in both languages."""


def test_each_part_of_the_name_of_a_type_has_a_german_word_and_no_word_is_left_over() -> None:
    """English reads as the name stands, but for a few."""
    parts = {part for name in known_types() for part in name.split(".")}
    words = {language: dict(pair.split("=") for pair in texts_of(f"texts/{language}.js")["audit.words"].split(", "))
             for language in ("en", "de")}  # fmt: skip
    assert set(words["de"]) == parts - ALIKE
    assert set(words["en"]) <= parts
