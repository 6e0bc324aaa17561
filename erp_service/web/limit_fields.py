"""The fields `RateLimit-Policy` and `RateLimit` of draft-ietf-httpapi-ratelimit-headers-10: one item for each limit by
which a request was counted, in this order."""

from functools import lru_cache
from typing import Any, NamedTuple

POLICY, LIMIT = "RateLimit-Policy", "RateLimit"
_POLICY, _LIMIT = b"ratelimit-policy", b"ratelimit"


class Standing(NamedTuple):
    """How a caller stands with the limit `name`, which lets `most` uses through in `seconds`: so many are `remaining`
    after this one, unless it `is_refused`, and the limit starts again after `wait` seconds."""

    name: str
    most: int
    seconds: int
    remaining: int
    wait: int
    is_refused: bool = False

    @property
    def policy(self) -> str:
        return f'"{self.name}";q={self.most};w={self.seconds}'

    @property
    def limit(self) -> str:
        return f'"{self.name}";r={self.remaining};t={self.wait}'


def note(state: dict[str, Any], standing: Standing) -> None:
    """Add it to the headers of the answer to the request whose scope has this `state`, whatever the answer will be."""
    policy = _policy(standing.name, standing.most, standing.seconds)
    limit = standing.limit.encode()
    if (noted := state.get("headers")) is not None:
        policy, limit = b", ".join((noted[_POLICY], policy)), b", ".join((noted[_LIMIT], limit))
    state["headers"] = {_POLICY: policy, _LIMIT: limit}


@lru_cache(100)
def _policy(name: str, most: int, seconds: int) -> bytes:
    return Standing(name, most, seconds, 0, 0).policy.encode()
