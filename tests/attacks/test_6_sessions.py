"""What is over is over on every instance: a log-out, a stolen refresh token, a role, an address that was given away."""

from tests.attacks.target import EMAIL, JOBS, PASSWORD, Target, finished
from tests.support.waiting import eventually

LOGIN, ME = "/api/v1/auth/login", "/api/v1/auth/me"


async def _pair(target: Target) -> dict[str, str]:
    async with target.client() as client:
        answer = await client.post(LOGIN, data={"username": EMAIL, "password": PASSWORD})
        assert answer.status_code == 200, answer.text
        return dict(answer.json())


async def _refused_everywhere(target: Target, token: str) -> bool:
    statuses = []
    for instance in target.instances:
        async with target.client(token, url=instance.url) as client:
            statuses.append((await client.get(ME)).status_code)
    return set(statuses) == {401}


async def _job(target: Target, token: str) -> str:
    async with target.client(token) as client:
        job = await finished(client, dataset="locations")
    return str(job["id"])


async def test_log_out_ends_access_tokens_and_signed_addresses_on_every_instance(target: Target) -> None:
    token = (await _pair(target))["access_token"]
    job = await _job(target, token)
    async with target.client(token, url=target.instances[0].url) as client:
        address = (await client.post(f"{JOBS}/{job}/download-url")).json()["url"]
        path = address[address.index("/api/") :]
        async with target.client(url=target.instances[1].url) as anybody:
            assert (await anybody.get(path)).status_code == 200
            assert (await client.post("/api/v1/auth/logout")).status_code == 204
            await eventually(lambda: _refused_everywhere(target, token))

            async def gone() -> bool:
                return (await anybody.get(path)).status_code == 403

            await eventually(gone)


async def test_stolen_refresh_token_ends_the_access_tokens_of_its_family(target: Target) -> None:
    pair = await _pair(target)
    async with target.client(url=target.instances[0].url) as client:
        body = {"refresh_token": pair["refresh_token"]}
        renewed = (await client.post("/api/v1/auth/refresh", json=body)).json()
        assert (await client.post("/api/v1/auth/refresh", json=body)).status_code == 401
    for token in (pair["access_token"], renewed["access_token"]):
        await eventually(lambda token=token: _refused_everywhere(target, token))  # type: ignore[misc]


async def test_jobs_of_others_are_not_there(target: Target) -> None:
    job = await _job(target, target.super_admin)
    async with target.client(target.greedy) as client:
        requests = [
            ("GET", ""), ("GET", "/download"), ("GET", "/events"), ("POST", "/download-url"), ("POST", "/cancel"),
            ("POST", "/retry"), ("DELETE", ""),
        ]  # fmt: skip
        for method, path in requests:
            assert (await client.request(method, f"{JOBS}/{job}{path}")).status_code in (403, 404), path
