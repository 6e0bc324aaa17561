"""The README's tour through a shopkeeper's day: each request is answered as the page says."""

import re
import shlex
from pathlib import Path
from typing import Any

import httpx

README = Path(__file__).parents[2] / "README.md"
REQUEST = re.compile(r"(?:([A-Z]+)=\$\()?erp (.*?)(?: \| id (\w+)\))?")


def steps() -> list[tuple[str, str]]:
    """Each request of the tour, and the answer below it."""
    text = README.read_text()
    chapter = text[text.index("## A shopkeeper's day") : text.index("## Exports")]
    found: list[tuple[str, str]] = []
    for block in re.findall(r"```sh\n(.*?)```", chapter, re.DOTALL):
        for line in block.splitlines():
            if line.startswith("#"):
                request, answer = found.pop()
                found.append((request, answer + line.removeprefix("#").strip()))
            elif not line.startswith("id()"):
                found.append((line, ""))
    return found


async def send(client: httpx.AsyncClient, request: str, variables: dict[str, str]) -> httpx.Response:
    for name, value in variables.items():
        request = request.replace(f"'${name}'", value).replace(f"${name}", value)
    path, *body = shlex.split(request)
    if not body:
        return await client.get(path)
    method = "POST"
    if body[0] == "-X":
        _, method, *body = body
    option, content = body
    assert option == "--json"
    return await client.request(method, path, content=content, headers={"Content-Type": "application/json"})


async def test_each_answer_comes_as_the_readme_says(admin: httpx.AsyncClient) -> None:
    stall = {"code": "STALL", "name": "The market stall", "location_type": "WAREHOUSE"}
    assert (await admin.post("/api/v1/inventory/locations", json=stall)).status_code == 201
    variables: dict[str, Any] = {"API": "/api/v1"}
    taken = steps()
    assert len(taken) > 12
    for line, shown in taken:
        match = REQUEST.fullmatch(line)
        assert match is not None, line
        variable, request, field = match.groups()
        answer = await send(admin, request, variables)
        if variable:
            variables[variable] = answer.json()[field]
        rest = answer.text
        for part in (part.strip() for part in shown.split("...")):
            assert part, "an answer stands below each request"
            _, there, rest = rest.partition(part.rstrip(",").lstrip(",") if part not in ("{", "}") else part)
            assert there, f"{line}\n{part!r} is not in its place in {answer.text}"
