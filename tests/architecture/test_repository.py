"""What the repository must hold, and must not."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = [
    ROOT / name
    for name in subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    if (ROOT / name).is_file()
]
TEXTS = [path for path in FILES if path.suffix in {".py", ".md", ".toml", ".txt", ".yaml", ".sh", ".sql", ""}]


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_registry_and_no_lock_file_with_addresses(path: Path) -> None:
    assert path.name not in {"uv.lock", "poetry.lock", "package-lock.json"}
    addresses = r"index[-]url|https?://\S*/(simple|packages)/|https?://\S*[.]whl"
    assert not re.search(addresses, path.read_text()), path


@pytest.mark.parametrize("path", [path for path in FILES if path.suffix == ".md"], ids=lambda path: path.name)
def test_every_file_that_a_document_names_is_there(path: Path) -> None:
    text = path.read_text()
    linked = re.findall(r"\]\(([^)#:]+)\)", text) + re.findall(r"`([\w-]+\.md)`", text)
    named = re.findall(r"`((?:erp_service|migrations|ops)/[\w./-]+)", text)
    assert [name for name in linked if not (path.parent / name).exists()] == []
    assert [name for name in named if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("path", [path for path in FILES if path.suffix == ".md"], ids=lambda path: path.name)
def test_every_heading_that_a_document_links_to_is_there(path: Path) -> None:
    links = re.findall(r"\]\(([^)#:\s]*)#([^)\s]+)\)", path.read_text())
    assert [link for link in links if link[1] not in anchors((path.parent / link[0]) if link[0] else path)] == []


def anchors(page: Path) -> set[str]:
    """Those that are made of the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


def test_every_dependency_has_an_exact_version() -> None:
    lines = (ROOT / "ops/constraints.txt").read_text().splitlines()
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+==[A-Za-z0-9.!+]+", line) for line in lines)
    # what only builds the image is not installed where the tests run
    lines += [line for line in (ROOT / "ops/hashes.txt").read_text().splitlines() if "==" in line]
    pinned = {line.partition("==")[0].lower().replace("_", "-") for line in lines}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = [*project["dependencies"], *(d for extra in project["optional-dependencies"].values() for d in extra)]
    wanted = {re.split(r"[^a-z0-9-]", name)[0] for name in declared} - {"erp-service"}
    assert wanted <= pinned


def test_no_module_uses_the_untyped_state_of_a_request() -> None:
    package = ROOT / "erp_service"
    assert [path for path in package.rglob("*.py") if "request.state" in path.read_text()] == []
