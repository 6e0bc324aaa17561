"""Every order of beginning, confirming, replacing and removing a second factor, against a model."""

import asyncio
from typing import Any, ClassVar

import asyncpg
import httpx
from hypothesis import HealthCheck
from hypothesis import settings as examples
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from tests.auth.devices import TOTP, Device, confirm, log_in
from tests.auth.people import PASSWORD, Join, bearer, signed_in, slug

PROOFS = st.sampled_from(["present", "pending", "recovery", "used recovery", "wrong", "none"])


class Enrolments(RuleBasedStateMachine):
    """The model: the device in force, the one that was begun, and the recovery codes that are left."""

    client: ClassVar[httpx.AsyncClient]
    owner: ClassVar[asyncpg.Connection]
    loop: ClassVar[asyncio.AbstractEventLoop]
    email: ClassVar[str]

    def do(self, coroutine: Any) -> Any:
        """On the loop of the test, since the machine runs in a thread."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(20)

    @initialize()
    def start(self) -> None:
        self.do(self.owner.execute("delete from second_factors; delete from recovery_codes; delete from rate_limits"))
        self.do(self.owner.execute("update users set second_factor_since = null"))
        self.pair = self.do(signed_in(self.client, self.email))
        self.present: Device | None = None
        self.pending: Device | None = None
        self.left: list[str] = []
        self.used = ["aaaa-aaaa-aaaa-aaaa-aaaa-aaaa"]

    def code(self, kind: str) -> str | None:
        # no counts, and the present codes are not used yet: what is tested here is neither
        self.do(self.owner.execute("delete from rate_limits; update second_factors set last_step = 0"))
        match kind:
            case "present" if self.present:
                return self.present.code(0)
            case "pending" if self.pending:
                return self.pending.code(0)
            case "recovery" if self.left:
                return self.left[0]
            case "used recovery":
                return self.used[-1]
            case "none":
                return None
        return "00000a"

    def proves(self, kind: str) -> bool:
        """Whether it is right, and is used up now."""
        if kind == "recovery" and self.left:
            self.used.append(self.left.pop(0))
            return True
        return kind == "present" and self.present is not None

    @rule(kind=PROOFS)
    def begin(self, kind: str) -> None:
        code = self.code(kind)
        body = {"password": PASSWORD} | ({} if code is None else {"code": code})
        answer = self.do(self.client.post(TOTP, json=body, headers=bearer(self.pair)))
        allowed = self.present is None or self.proves(kind)
        assert (answer.status_code == 200) == allowed
        if allowed:
            self.pending = Device(answer.json()["secret"], [])

    @rule(kind=st.sampled_from(["pending", "present", "wrong"]))
    def confirm(self, kind: str) -> None:
        answer = self.do(confirm(self.client, self.pair, self.code(kind) or ""))
        if self.pending is None:
            assert slug(answer) == "no-second-factor"
        elif kind != "pending":
            assert answer.status_code == 422
        else:
            self.present, self.pending = self.pending, None
            self.used += self.left
            self.left = answer.json()["recovery_codes"]

    @rule(kind=PROOFS)
    def sign_in(self, kind: str) -> None:
        answer = self.do(log_in(self.client, self.email, self.code(kind)))
        if self.present is None or self.proves(kind):
            assert answer.status_code == 200
        else:
            assert slug(answer) == ("second-factor-needed" if kind == "none" else "second-factor-wrong")

    @rule(kind=PROOFS)
    def remove(self, kind: str) -> None:
        body = {"password": PASSWORD, "code": self.code(kind) or "-"}
        answer = self.do(self.client.request("DELETE", TOTP, json=body, headers=bearer(self.pair)))
        if self.present is None:
            assert slug(answer) == "no-second-factor"
        elif self.proves(kind):
            assert answer.status_code == 204
            self.used += self.left
            self.present, self.pending, self.left = None, None, []
        else:
            assert answer.status_code == 422

    @precondition(lambda self: self.present is not None)
    @rule()
    def look(self) -> None:
        state = self.do(self.client.get(TOTP, headers=bearer(self.pair))).json()
        assert (state["recovery_codes"], state["since"] is not None) == (len(self.left), True)


async def test_no_order_of_events_leaves_an_account_without_what_it_was_promised(
    client: httpx.AsyncClient, join: Join, owner: asyncpg.Connection
) -> None:
    person = await join()
    here = {"client": client, "owner": owner, "loop": asyncio.get_running_loop(), "email": person.email}
    limits = examples(
        deadline=None, max_examples=4, stateful_step_count=12, suppress_health_check=list(HealthCheck), database=None
    )
    await asyncio.to_thread(run_state_machine_as_test, type("Here", (Enrolments,), here), settings=limits)
