"""What a CSV needs for a program that is named in the request, as its options."""

import re

from erp_service.exports.formats.csv_options import CsvOptions

PATTERN = r"^excel(-[a-z]{2}(-[A-Z]{2}|-[0-9]{3})?)?$"


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


# CLDR 47: the languages that write a decimal comma, the others, and the places that differ from their language
_COMMA = _set(
    "af az ba be bg br bs ca cs cv da de el eo es et eu ff fi fo fr fy gl hr ht hu hy ia id ie is it jv ka kk kl ku ky"
    " lb ln lo lt lu lv mk nb nl nn no nr pl ps pt rm rn ro ru rw sc se sg sk sl sq sr ss su sv tg tk tr ts tt uk uz ve"
    " vi wo"
)
_POINT = _set(
    "aa ab ak am an ar as bm bn bo ce co cu cy dv dz ee en fa ga gd gn gu gv ha he hi ig ii io iu ja ki km kn ko ks kw"
    " la lg mg mi ml mn mr ms mt my nd ne nv ny oc om or os pa pi qu sa sd si sn so st sw ta te th ti tn to ug ur vo wa"
    " xh yi yo za zh zu"
)
_COMMA_PLACES = _set(
    "ar-DZ ar-LB ar-LY ar-MA ar-MR ar-TN en-AT en-BE en-CZ en-DE en-DK en-EE en-ES en-FI en-FR en-GE en-HU en-ID en-IT"
    " en-LT en-LV en-NL en-NO en-PL en-PT en-RO en-SE en-SI en-SK en-UA en-ZA ms-BN ms-ID qu-BO sw-CD"
)
_POINT_PLACES = _set(
    "de-CH de-LI es-419 es-BR es-BZ es-CU es-DO es-GT es-HN es-MX es-NI es-PA es-PE es-PR es-SV es-US fr-RW it-CH"
)
# Windows separates lists by semicolons here although its numbers have a point
_SEMICOLON_PLACES = frozenset({"de-CH", "de-LI", "it-CH"})


def options_for(preset: str) -> CsvOptions:
    """`excel`, or `excel-` with a language such as de or de-CH; raises ValueError.

    Excel splits a CSV by the list separator of Windows, which is a semicolon where numbers have a comma."""
    if not re.fullmatch(PATTERN, preset):
        raise ValueError("is not one of excel and excel with a language behind it, such as excel-de or excel-de-CH")
    tag = preset.removeprefix("excel").removeprefix("-") or "en"
    language = tag.partition("-")[0]
    if language not in _COMMA | _POINT:
        raise ValueError(f"is for a language that is not one of those known here, {language}; set the options in `csv`")
    has_comma = tag in _COMMA_PLACES or (language in _COMMA and tag not in _POINT_PLACES)
    return CsvOptions(
        delimiter=";" if has_comma or tag in _SEMICOLON_PLACES else ",",
        decimal_comma=has_comma,
        bom=True,
        line_ending="crlf",
        formula_guard=True,
    )
