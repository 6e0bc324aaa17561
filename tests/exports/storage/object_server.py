"""An S3-speaking server for the tests: moto's, behind a gate that looks at signatures and plays the server's bad days.

`python -m tests.exports.storage.object_server` prints its port, and ends with its parent's end of the pipe."""

import hashlib
import hmac
import os
import sys
import threading
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, quote

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.test import Client

ACCESS_KEY, SECRET_KEY, REGION = "AKIATEST", "a-secret/that+nobody-may-see", "eu-central-1"
BUCKET = "exports"

ANSWERS = {
    "full": ("507 Insufficient Storage", "XMinioStorageFull"),
    "quota": ("403 Forbidden", "QuotaExceeded"),
    "denied": ("403 Forbidden", "AccessDenied"),
    "broken": ("503 Service Unavailable", "ServiceUnavailable"),
}
"""The errors with which the buckets of these names answer writes; `full` refuses only whole files and parts."""

Application = Callable[[dict[str, Any], Any], Iterable[bytes]]


def gate(application: Application) -> Application:
    def checked(environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        if "HTTP_X_FROM_THE_TEST" in environ:
            return application(environ, start)
        fault = _signed(environ) or _bad_day(environ)
        if fault is None:
            return application(environ, start)
        status, code = fault
        environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        # Amazon's response to a wrong signature repeats much of the request
        body = f"<Error><Code>{code}</Code><AWSAccessKeyId>{ACCESS_KEY}</AWSAccessKeyId></Error>".encode()
        start(status, [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
        return [body]

    return checked


def _bad_day(environ: dict[str, Any]) -> tuple[str, str] | None:
    _, bucket, *rest = environ["PATH_INFO"].split("/", 2)
    if environ["REQUEST_METHOD"] not in ("PUT", "POST") or bucket not in ANSWERS:
        return None
    if bucket == "full" and (environ["REQUEST_METHOD"] == "POST" or not rest[0].endswith((".csv", ".gz"))):
        return None
    return ANSWERS[bucket] if rest and rest[0] else None


def _signed(environ: dict[str, Any]) -> tuple[str, str] | None:
    """AWS Signature Version 4, in the header or in the query."""
    path, _, query_text = environ["RAW_URI"].partition("?")
    query = dict(parse_qsl(query_text, keep_blank_values=True))
    if (given := query.pop("X-Amz-Signature", None)) is not None:
        credential, names, payload = query["X-Amz-Credential"], query["X-Amz-SignedHeaders"], "UNSIGNED-PAYLOAD"
        time = query["X-Amz-Date"]
        begun = datetime.strptime(time, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        if (datetime.now(UTC) - begun).total_seconds() > int(query["X-Amz-Expires"]):
            return "403 Forbidden", "AccessDenied"
    elif header := environ.get("HTTP_AUTHORIZATION"):
        told = dict(part.strip().split("=", 1) for part in header.removeprefix("AWS4-HMAC-SHA256").split(","))
        credential, names, given = told["Credential"], told["SignedHeaders"], told["Signature"]
        time, payload = environ["HTTP_X_AMZ_DATE"], environ["HTTP_X_AMZ_CONTENT_SHA256"]
    else:
        return "403 Forbidden", "AccessDenied"
    who, scope = credential.split("/", 1)
    if who != ACCESS_KEY:
        return "403 Forbidden", "InvalidAccessKeyId"
    canonical = "\n".join(
        [
            environ["REQUEST_METHOD"],
            path,
            "&".join(f"{quote(k, safe='~')}={quote(v, safe='~')}" for k, v in sorted(query.items())),
            *(f"{name}:{_header(environ, name)}" for name in names.split(";")),
            "",
            names,
            payload,
        ]
    )
    text = "\n".join(["AWS4-HMAC-SHA256", time, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = b"AWS4" + SECRET_KEY.encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    right = hmac.new(key, text.encode(), "sha256").hexdigest()
    return None if hmac.compare_digest(right, given) else ("403 Forbidden", "SignatureDoesNotMatch")


def _header(environ: dict[str, Any], name: str) -> str:
    variable = name.upper().replace("-", "_")
    found: str = environ.get(f"HTTP_{variable}", environ.get(variable, ""))
    return " ".join(found.split())


class Quiet(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002
        pass


def main() -> None:
    # one request at a time: moto checks for an object and then stores it, and two at once would both succeed
    moto = DomainDispatcherApplication(create_backend_app)
    for bucket in (BUCKET, *ANSWERS):
        Client(moto).put(f"http://127.0.0.1/{bucket}").close()
    server = make_server("127.0.0.1", 0, gate(moto), request_handler=Quiet)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    sys.stdout.write(f"{server.server_port}\n")
    sys.stdout.flush()
    server.serve_forever()


def _end_with_parent() -> None:
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
