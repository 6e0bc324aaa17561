"""The formats that exports come in."""

from collections.abc import Mapping
from typing import Literal, NamedTuple

FormatName = Literal["csv"]
CompressionName = Literal["none"]


class Format(NamedTuple):
    name: FormatName
    media_type: str
    extension: str


FORMATS: Mapping[str, Format] = {"csv": Format("csv", "text/csv; charset=utf-8; header=present", "csv")}
COMPRESSIONS: tuple[CompressionName, ...] = ("none",)
