"""The problem of the console's session, in addition to those of sign-in."""

from erp_service import errors


class OtherOrigin(errors.Refused):
    """The console's session is for pages of this service alone, and the request did not come from one: its
    `Sec-Fetch-Site` is not `same-origin`, or its `Origin` is another one, or it has neither.

    Programs sign in at `POST /api/v1/auth/login`. If this is the console itself, the proxy in front of the service
    changes the header `Host`: let it pass on what the browser sent, or set `ERP_PUBLIC_URL`."""

    status, slug, title = 403, "other-origin", "The request does not come from the console"
