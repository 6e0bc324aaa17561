"""Session types: what a connection may be used for."""

from typing import NewType

from sqlalchemy.ext.asyncio import AsyncConnection

ReadSession = NewType("ReadSession", AsyncConnection)
"""Autocommit: each statement sees what is committed when it starts. May be a replica. Never writes."""

WriteSession = NewType("WriteSession", AsyncConnection)
"""One transaction on the primary, committed before the answer starts."""

Session = ReadSession | WriteSession
"""For a function that only reads and does not mind where."""
