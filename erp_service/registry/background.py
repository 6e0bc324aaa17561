"""What each worker does beside its jobs. It is not a job itself, so a worker full of long exports still does it."""

from collections.abc import Awaitable, Callable

from msgspec import Struct

from erp_service.registry.services import ServiceSet


class BackgroundStep(Struct, frozen=True):
    """`run` is called about once a second in every worker, and must be safe to run in several at once."""

    name: str
    run: Callable[[ServiceSet], Awaitable[None]]


class BackgroundLoop(Struct, frozen=True):
    """For what must look more often, or holds a connection of its own. `run` returns only by an error, and is then
    called again; it must be safe to run in several workers at once."""

    name: str
    run: Callable[[ServiceSet], Awaitable[None]]
