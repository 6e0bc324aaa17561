"""Writes into its store until it is killed: `python -m tests.exports.storage.endless_writer KEY`."""

import asyncio
import os
import sys

from erp_service import settings
from erp_service.exports.storage.base import FileKey
from erp_service.exports.storage.registry import open_store


async def main(name: str) -> None:
    store, key = open_store(settings.load()), FileKey.read(name)
    if key is None:
        raise ValueError(name)
    async with store.writing(key) as write:
        while True:
            await write(os.urandom(1024 * 1024))
            sys.stdout.write(".")
            sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
