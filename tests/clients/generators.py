"""The generators of clients: how each is called, and how the client that it writes is checked and run."""

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
TOOLS = ROOT / "build" / "clients"
TOURS = Path(__file__).parent / "tours"
PYTHON = str(TOOLS / "venv" / "bin" / "python")
NODE = {"PATH": f"{TOOLS / 'venv' / 'bin'}:{os.environ['PATH']}"}

_TYPESCRIPT = {
    "strict": True,
    "noUncheckedIndexedAccess": False,
    "skipLibCheck": True,
    "target": "ES2022",
    "module": "node16",
    "lib": ["ES2022", "DOM", "DOM.Iterable"],
    "types": ["node"],
    "esModuleInterop": True,
    "rootDir": ".",
    "outDir": "compiled",
}


class Generator(NamedTuple):
    """`command` holds `{document}` and `{client}`, the folder to write; `tour` is the name of the tour's file."""

    name: str
    command: Sequence[str]
    tour: str

    def generate(self, document: Path, directory: Path) -> None:
        """Into `directory/client` or, for Python, `directory/erp_client`."""
        client = directory / ("erp_client" if self.tour.endswith(".py") else "client")
        run([part.format(document=document, client=client, directory=directory) for part in self.command], directory)

    def check(self, directory: Path) -> None:
        """Compile the client and its tour; the compiler of TypeScript is strict."""
        if self.tour.endswith(".py"):
            run([PYTHON, "-m", "compileall", "-q", "erp_client"], directory)
            return
        (directory / "node_modules").symlink_to(TOOLS / "node_modules")
        (directory / "package.json").write_text('{"type": "commonjs"}')
        tours = directory / "tours"
        tours.mkdir()
        (tours / self.tour).write_text((TOURS / self.tour).read_text())
        configuration = {"compilerOptions": _TYPESCRIPT, "include": ["tours/*.ts", "client/**/*.ts"]}
        (directory / "tsconfig.json").write_text(json.dumps(configuration))
        run([node("tsc"), "--project", "."], directory)

    def run_tour(self, directory: Path, environment: Mapping[str, str]) -> str:
        if self.tour.endswith(".py"):
            command, more = [PYTHON, str(TOURS / self.tour)], {"PYTHONPATH": str(directory)}
        else:
            command, more = ["node", f"compiled/tours/{self.tour.removesuffix('.ts')}.js"], {}
        return run(command, directory, {**environment, **more})


def node(program: str) -> str:
    return str(TOOLS / "node_modules" / ".bin" / program)


def run(command: Sequence[str], directory: Path, environment: Mapping[str, str] | None = None) -> str:
    """What the program writes. Fails with it unless the program succeeds."""
    done = subprocess.run(
        command,
        cwd=directory,
        env={**os.environ, **NODE, **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-6000:]}"
    return done.stdout


def _openapi_generator(language: str, *options: str) -> list[str]:
    program = str(TOOLS / "venv" / "bin" / "openapi-generator-cli")
    return [program, "generate", "-g", language, "-i", "{document}", *options]


GENERATORS = [
    Generator(
        "openapi-python-client",
        [
            str(TOOLS / "venv" / "bin" / "openapi-python-client"),
            *("generate", "--path", "{document}", "--output-path", "{client}", "--meta", "none", "--fail-on-warning"),
            *("--config", str(TOURS.parent / "openapi_python_client.yaml")),
        ],
        "openapi_python_client.py",
    ),
    Generator(
        "openapi-generator-python",
        _openapi_generator("python", "-o", "{directory}", "--package-name", "erp_client"),
        "openapi_generator.py",
    ),
    Generator(
        "openapi-generator-typescript-fetch",
        _openapi_generator("typescript-fetch", "-o", "{client}"),
        "typescript_fetch.ts",
    ),
    Generator("hey-api", [node("openapi-ts"), "-i", "{document}", "-o", "{client}"], "hey_api.ts"),
    Generator(
        "openapi-typescript",
        [node("openapi-typescript"), "{document}", "-o", "{client}/schema.d.ts"],
        "openapi_typescript.ts",
    ),
]
