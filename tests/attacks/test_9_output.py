"""After all the attacks: no log of any process has a secret."""

from tests.attacks.target import EMAIL, PASSWORD, Target
from tests.support.databases import connected

SECRETS = """
    select password_hash from users where password_hash <> '!'
    union all select encode(digest, 'hex') from refresh_tokens
    union all select encode(digest, 'base64') from refresh_tokens
"""


async def test_no_log_of_any_process_has_a_secret(target: Target) -> None:
    async with target.client(target.super_admin) as client:
        body = {"email": EMAIL, "full_name": "Twice", "role": "VIEWER", "password": "a lamp above the stairs"}
        taken = await client.post("/api/v1/users", json=body)
        assert taken.status_code == 409
    async with connected(target.settings.migration_database_url or "") as owner:
        secrets = [row[0] for row in await owner.fetch(SECRETS)]
    secrets += [target.viewer, target.staff, target.admin, target.super_admin, PASSWORD, body["password"]]
    secrets += [target.settings.jwt_secret or "", "signature=", EMAIL]
    outputs = {path.name: path.read_text() for path in target.logs.glob("*.log")}
    assert outputs["haproxy.log"]
    assert taken.headers["X-Request-Id"] in outputs["haproxy.log"]
    assert [(name, secret) for name, text in outputs.items() for secret in secrets if secret in text] == []
