"""Whether a page of this service itself makes a request that carries the console's cookie.

`SameSite=Strict` keeps the cookie from other sites already; this keeps out other hosts of the same site, too."""

from collections.abc import Mapping
from urllib.parse import urlsplit

from erp_service.console.problems import OtherOrigin


def require_own(headers: Mapping[str, str], public_url: str | None) -> None:
    """Raises OtherOrigin. `headers` are found by their names in small letters.

    Browsers let no script write either header (Fetch, 2.2.2). They send `Sec-Fetch-Site` over TLS and to this machine
    only, and `Origin` with every POST and DELETE."""
    site = headers.get("sec-fetch-site")
    if site is not None:
        if site != "same-origin":
            raise OtherOrigin
        return
    origin = urlsplit(headers.get("origin", ""))
    public = urlsplit(public_url or "")
    # behind a balancer the scheme is not known without a setting
    schemes = (public.scheme,) if public_url else ("http", "https")
    hosts = {public.netloc.lower(), headers.get("host", "").lower()} - {""}
    if origin.scheme not in schemes or origin.netloc.lower() not in hosts:
        raise OtherOrigin
