"""Session types: what a connection may be used for."""

from typing import NewType

from sqlalchemy.ext.asyncio import AsyncConnection

ReadSession = NewType("ReadSession", AsyncConnection)
"""Autocommit: each statement sees what is committed when it starts. May be a replica. Never writes."""

WriteSession = NewType("WriteSession", AsyncConnection)
"""One transaction on the primary, committed before the answer starts."""

AutocommitSession = NewType("AutocommitSession", AsyncConnection)
"""On the primary: each statement is a transaction of its own, and may write. For counts that stay, whatever happens to
the request: those of rate limits."""

Session = ReadSession | WriteSession
"""For a function that only reads, in either."""
