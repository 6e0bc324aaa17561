"""Virtual environments of the peers, apart from the service's own, with which their dependencies would collide."""

import hashlib
import subprocess
import sys
from pathlib import Path

from tests.bench.bench import CACHE
from tests.bench.load import NotMeasured

CONSTRAINTS = Path(__file__).parents[2] / "ops" / "constraints.txt"


def python_with(name: str, packages: list[str], *, as_ours: bool = False) -> Path:
    """The Python of an environment that has these packages, made at its first use. `as_ours`: in the versions that the
    service runs with, where it uses the package too. Raises NotMeasured if they cannot be installed."""
    directory = CACHE / name
    options = ["--constraint", str(CONSTRAINTS)] if as_ours else []
    wanted = hashlib.sha256(repr((packages, CONSTRAINTS.read_text() if as_ours else "")).encode()).hexdigest()
    python, stamp = directory / "bin" / "python", directory / "installed"
    if stamp.exists() and stamp.read_text() == wanted:
        return python
    try:
        subprocess.run([sys.executable, "-m", "venv", "--clear", directory], check=True)
        pip = [str(python), "-m", "pip", "install", "-qq", "--disable-pip-version-check", *options, *packages]
        subprocess.run(pip, check=True, stdout=subprocess.DEVNULL)
    except (OSError, subprocess.SubprocessError) as problem:
        raise NotMeasured(f"{', '.join(packages)} cannot be installed: {problem}") from problem
    stamp.write_text(wanted)
    return python


def python_of_the_service() -> Path:
    """The Python of an environment with the packages that the image has, and none for tests: what a process is made of
    decides how much memory it takes. Raises NotMeasured."""
    return python_with("service", ["--editable", str(CONSTRAINTS.parents[1])], as_ours=True)


def versions_in(python: Path, *packages: str) -> dict[str, str]:
    """The versions of the packages in that environment."""
    script = "import importlib.metadata as m, sys; print('\\n'.join(m.version(p) for p in sys.argv[1:]))"
    found = subprocess.run([python, "-c", script, *packages], check=True, capture_output=True, text=True)
    return dict(zip(packages, found.stdout.split(), strict=True))
