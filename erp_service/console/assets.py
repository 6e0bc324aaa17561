"""The files of the console as they are served: named by their content, and compressed once.

A module imports others by their paths, such as `"../core/api.js"`, in the checkout and in an editor alike. Here each of
these gets a name with the hash of what it stands for, innermost first: a name changes with anything that it reaches.
All are served from one directory, so `core/api.js` becomes `core-api.HASH.js`."""

import gzip
import hashlib
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

# a static import, an export from, or an import(); the file names no module in any other way
_IMPORT = re.compile(
    r"""(?P<before>\bfrom\s*|\bimport\s*\(\s*|^import\s+)"(?P<path>\.{1,2}/[\w./-]+\.js)\"""", re.MULTILINE
)
_HASH_DIGITS = 12
_MEDIA_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}


class Asset(NamedTuple):
    """`name` is the path of the file below the directory, `served_as` has the hash in it."""

    name: str
    served_as: str
    body: bytes
    gzipped: bytes
    imports: tuple[str, ...]
    """The names of the files that it imports at once, not those that it loads when they are needed."""

    @property
    def media_type(self) -> str:
        return _MEDIA_TYPES[Path(self.name).suffix]


class Assets:
    """All files of a directory and of those below it. Raises ValueError if modules import each other in a circle,
    KeyError if one imports a file that is not there."""

    def __init__(self, directory: Path) -> None:
        paths = sorted(path for path in directory.rglob("*") if path.is_file())
        self._sources = {path.relative_to(directory).as_posix(): path.read_bytes() for path in paths}
        self._by_name: dict[str, Asset] = {}
        for name in self._sources:
            self._load(name, ())
        self._by_served = {asset.served_as: asset for asset in self._by_name.values()}

    def named(self, name: str) -> Asset:
        return self._by_name[name]

    def served(self, served_as: str) -> Asset | None:
        """Exactly this version of a file."""
        return self._by_served.get(served_as)

    def of_another_version(self, served_as: str) -> Asset | None:
        """The file at the top of the directory that has this name without its hash."""
        stem, _, rest = served_as.partition(".")
        return self._by_name.get(f"{stem}.{rest.rpartition('.')[2]}")

    def closure(self, name: str) -> list[Asset]:
        """The file and all that it imports at once, directly or not; each once."""
        found: dict[str, Asset] = {}
        waiting = [name]
        while waiting:
            asset = self._by_name[waiting.pop(0)]
            if asset.name not in found:
                found[asset.name] = asset
                waiting += asset.imports
        return list(found.values())

    def __iter__(self) -> Iterator[Asset]:
        return iter(self._by_name.values())

    def _load(self, name: str, importers: tuple[str, ...]) -> Asset:
        if name in importers:
            raise ValueError(" imports ".join([*importers[importers.index(name) :], name]))
        if (known := self._by_name.get(name)) is not None:
            return known
        at_once: list[str] = []
        body = self._sources[name]
        if name.endswith(".js"):

            def hashed(match: re.Match[str]) -> str:
                path = posixpath.normpath(posixpath.join(posixpath.dirname(name), match["path"]))
                imported = self._load(path, (*importers, name))
                if "(" not in match["before"]:
                    at_once.append(imported.name)
                return f'{match["before"]}"./{imported.served_as}"'

            body = _IMPORT.sub(hashed, body.decode()).encode()
        stem, suffix = posixpath.splitext(name.replace("/", "-"))
        served_as = f"{stem}.{hashlib.sha256(body).hexdigest()[:_HASH_DIGITS]}{suffix}"
        # the same bytes from every instance: no time in the head of the file
        asset = Asset(name, served_as, body, gzip.compress(body, 9, mtime=0), tuple(at_once))
        self._by_name[name] = asset
        return asset
