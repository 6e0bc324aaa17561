"""The files of the console: named by their content, compressed once, small, and nothing fetched from elsewhere."""

import gzip
import re
from pathlib import Path

import pytest

from erp_service.console.assets import Assets
from erp_service.console.page import APP, ENTRY, STYLE, render
from erp_service.console.routes import ASSETS
from erp_service.web.pages.frame import base_of

MOST_BYTES = 200_000
MOST_OF_TODAY = 60_000
"""As they are sent, compressed; of Today at the first visit already."""

EACH = sorted(ASSETS, key=lambda asset: asset.name)
SCRIPTS = [asset for asset in EACH if asset.name.endswith(".js")]


def written(directory: Path, **files: str) -> Path:
    for name, text in files.items():
        (directory / f"{name}.js").write_text(text)
    return directory


def test_all_of_it_is_small() -> None:
    assert sum(len(asset.gzipped) for asset in EACH) < MOST_BYTES
    first = [*ASSETS.closure(APP), ASSETS.named(ENTRY), ASSETS.named(STYLE), ASSETS.named("texts/de.js")]
    assert sum(len(asset.gzipped) for asset in first) < MOST_OF_TODAY


def test_a_name_changes_with_everything_that_it_reaches(tmp_path: Path) -> None:
    written(
        tmp_path, a='import { b } from "./b.js";\n', b='const c = () => import("./c.js");\n', c="export const c = 1;\n"
    )
    before = {asset.name: asset.served_as for asset in Assets(tmp_path)}
    assert before == {asset.name: asset.served_as for asset in Assets(tmp_path)}
    written(tmp_path, c="export const c = 2;\n")
    after = {asset.name: asset.served_as for asset in Assets(tmp_path)}
    assert set(before.values()).isdisjoint(after.values())
    assert f'"./{after["c.js"]}"' in Assets(tmp_path).named("b.js").body.decode()
    assert [asset.name for asset in Assets(tmp_path).closure("a.js")] == ["a.js", "b.js"], "c.js is loaded later"


def test_modules_that_import_each_other_stop_the_start(tmp_path: Path) -> None:
    written(tmp_path, a='import "./b.js";\n', b='import "./a.js";\n')
    with pytest.raises(ValueError, match=r"a\.js imports b\.js imports a\.js"):
        Assets(tmp_path)
    written(tmp_path, a="", b='import "./absent.js";\n')
    with pytest.raises(KeyError, match="absent"):
        Assets(tmp_path)


@pytest.mark.parametrize("asset", EACH, ids=lambda asset: asset.name)
def test_the_compressed_file_is_the_file(asset) -> None:  # type: ignore[no-untyped-def]
    assert gzip.decompress(asset.gzipped) == asset.body


@pytest.mark.parametrize("asset", SCRIPTS, ids=lambda asset: asset.name)
def test_each_import_names_a_file_that_is_served(asset) -> None:  # type: ignore[no-untyped-def]
    for name in re.findall(r'"\./([^"]+)"', asset.body.decode()):
        assert ASSETS.served(name) is not None, name


@pytest.mark.parametrize("asset", EACH, ids=lambda asset: asset.name)
def test_nothing_is_made_of_text_and_nothing_comes_from_elsewhere(asset) -> None:  # type: ignore[no-untyped-def]
    text = asset.body.decode()
    for forbidden in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "new Function",
        ".style.",
    ):
        assert forbidden not in text, forbidden
    hosts = set(re.findall(r"https?://[\w.-]+", text)) - {"http://www.w3.org"}
    assert hosts == set()


def test_both_languages_say_everything() -> None:
    languages = {name: texts_of(name) for name in ("texts/en.js", "texts/de.js")}
    english, german = languages.values()
    # of the problems, English has the service's own words
    assert {key for key in german if not key.startswith("problem.")} == set(english)
    for key, text in english.items():
        assert set(re.findall(r"{\w+}", text)) == set(re.findall(r"{\w+}", german[key])), key


def test_each_text_that_a_module_names_is_there() -> None:
    english = texts_of("texts/en.js")
    named = set()
    for asset in SCRIPTS:
        source = asset.body.decode()
        named |= set(re.findall(r'\bt\("([\w.-]+)"', source))
        named |= {f"{name}.other" for name in re.findall(r'\bplural\("([\w.-]+)"', source)}
    assert len(named) > 80
    assert named - set(english) == set()


def texts_of(name: str) -> dict[str, str]:
    return dict(re.findall(r'^  "([\w.-]+)": "(.*)",$', ASSETS.named(name).body.decode(), re.MULTILINE))


def test_the_page_holds_no_script_and_no_style_and_names_all_that_today_needs() -> None:
    page = render(ASSETS, "")
    assert not re.search(r"<script[^>]*>[^<]|<style| style=| on\w+=", page)
    for asset in ASSETS.closure(APP):
        assert f'<link rel="modulepreload" href="/console/assets/{asset.served_as}">' in page


def test_behind_a_path_every_address_begins_with_it() -> None:
    page = render(ASSETS, base_of("https://example.com/erp/"))
    assert 'data-base="/erp"' in page
    addresses = re.findall(r'(?:href|src)="([^"]+)"', page)
    assert len(addresses) > 5
    assert {address for address in addresses if not address.startswith("/erp/console/assets/")} == set()
