"""The fields `RateLimit-Policy` and `RateLimit` of draft-ietf-httpapi-ratelimit-headers-10: one item for each limit by
which a request was counted, in this order."""

from functools import lru_cache
from typing import Any, NamedTuple

POLICY, LIMIT = "RateLimit-Policy", "RateLimit"


class Standing(NamedTuple):
    """How a caller stands with the limit `name`, which lets `most` uses through in `seconds`: so many are `remaining`,
    and the limit starts again after `wait` seconds."""

    name: str
    most: int
    seconds: int
    remaining: int
    wait: int

    @property
    def policy(self) -> str:
        return f'"{self.name}";q={self.most};w={self.seconds}'

    @property
    def limit(self) -> str:
        return f'"{self.name}";r={self.remaining};t={self.wait}'


def note(state: dict[str, Any], standing: Standing) -> None:
    """Add it to the headers of the answer to the request whose scope has this `state`, whatever the answer will be."""
    policy = _policy(standing.name, standing.most, standing.seconds)
    headers: dict[bytes, bytes] = state.setdefault("headers", {})
    for name, item in ((b"ratelimit-policy", policy), (b"ratelimit", standing.limit.encode())):
        headers[name] = headers[name] + b", " + item if name in headers else item


@lru_cache(100)
def _policy(name: str, most: int, seconds: int) -> bytes:
    return Standing(name, most, seconds, 0, 0).policy.encode()
