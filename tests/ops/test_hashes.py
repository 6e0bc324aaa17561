"""What the image is built of is listed with digests, at the versions that are tested, and without an address."""

import re
import tomllib
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
HASHES = (ROOT / "ops/hashes.txt").read_text()
EXTRAS = ("objects", "parquet", "tracing")


def versions(text: str) -> dict[str, str]:
    return {canonicalize_name(name): version for name, version in re.findall(r"^(\S+)==(\S+)", text, re.MULTILINE)}


def needed() -> set[str]:
    """Every package that an image with all extras has, by what is installed here."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    texts = [*project["dependencies"], *(text for extra in EXTRAS for text in project["optional-dependencies"][extra])]
    waiting = [Requirement(text) for text in texts]
    seen: set[tuple[str, str]] = set()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        for extra in ("", *requirement.extras):
            if (name, extra) not in seen:
                seen.add((name, extra))
                more = [Requirement(text) for text in requires(name) or []]
                waiting += [each for each in more if each.marker is None or each.marker.evaluate({"extra": extra})]
    return {name for name, _ in seen}


def test_every_package_of_the_image_is_listed_at_the_version_that_is_tested() -> None:
    """If this fails after a change of packages: make constraints."""
    listed, tested = versions(HASHES), versions((ROOT / "ops/constraints.txt").read_text())
    assert needed() - listed.keys() == set()
    assert {name: version for name, version in listed.items() if tested.get(name, version) != version} == {}


@pytest.mark.parametrize("name", ["ops/hashes.txt", "ops/ha/hashes.txt", "ops/ha/build-hashes.txt"])
def test_every_package_has_digests_and_no_address(name: str) -> None:
    listed = (ROOT / name).read_text()
    packages = listed.replace("\\\n", "").splitlines()
    assert [
        line for line in packages if not re.fullmatch(r"\S+==\S+( ; [^\"@]+)?( +--hash=sha256:[0-9a-f]{64})+", line)
    ] == []
    assert "://" not in listed


def test_image_of_the_servers_is_built_only_of_what_is_listed() -> None:
    recipe = (ROOT / "ops/ha/Containerfile").read_text().replace("\\\n", " ")
    installs = [
        line for line in re.split(r"\n|&&", recipe) if re.search(r"/opt/pip/bin/pip .*\b(install|wheel)\b", line)
    ]
    assert len(installs) == 3
    for line in installs:
        assert "--require-hashes" in line or "--no-index" in line, line


def test_patroni_is_installed_at_the_version_that_checks_its_configuration() -> None:
    listed, tested = (
        versions((ROOT / "ops/ha/hashes.txt").read_text()),
        versions((ROOT / "ops/constraints.txt").read_text()),
    )
    assert {name: version for name, version in listed.items() if tested.get(name, version) != version} == {}
    assert "patroni" in tested


def test_image_is_built_only_of_what_is_listed() -> None:
    """It was built of whatever the registry had for a version."""
    recipe = (ROOT / "Containerfile").read_text().replace("\\\n", " ")
    commands = [line for line in re.split(r"\n|&&", recipe) if "/opt/pip/bin/pip " in line]
    installs = [line for line in commands if re.search(r"\b(install|wheel)\b", line)]
    assert len(installs) == 4
    for line in installs:
        assert "install-hashed" in line or "--no-build-isolation" in line or "--no-index" in line, line
    assert '"--require-hashes", "--no-deps"' in (ROOT / "ops/containers/install-hashed").read_text()
