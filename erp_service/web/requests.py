"""The request class: bodies are decoded straight into the type of the handler's `data`."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from litestar import Request

from erp_service import errors, texts, validation
from erp_service.access.principals import Principal
from erp_service.web.merge_patch import MergePatch

# one thread: of two that decode at once, each would take as long as both
_LARGE_BODIES = ThreadPoolExecutor(1, "bodies")

PATCHES = ("application/merge-patch+json", "application/json")
"""What a body of PATCH may be: both are a merge patch (RFC 7396). No other kind of patch is."""


class ApiRequest(Request[Principal, Any, Any]):
    """Decodes the body straight into the type of the handler's `data`: no floats, no `"5"` for 5, every fault named."""

    async def json(self) -> Any:
        """Raises errors.UnsupportedMedia for a body that says it is no JSON: forms and plain text are what a page of
        another origin may send without asking first (CORS)."""
        handler: Any = self.route_handler
        kind = handler.parsed_fn_signature.parameters["data"].annotation
        media_type = self.content_type[0].lower()
        if self.method == "PATCH" and media_type not in ("", *PATCHES):
            # RFC 5789, 2.2
            raise errors.UnsupportedMedia(
                f"Send {' or '.join(PATCHES)}, not {media_type[:100]}.", headers={"Accept-Patch": ", ".join(PATCHES)}
            )
        if media_type and media_type != "application/json" and not media_type.endswith("+json"):
            raise errors.UnsupportedMedia(f"Send JSON as application/json, not as {media_type[:100]}.")
        body = await texts.normalised_json(await self.body())
        if len(body) <= validation.INLINE:
            value = validation.decode(kind, body)
            if isinstance(value, MergePatch):
                value.check()
            return value
        return await asyncio.get_running_loop().run_in_executor(_LARGE_BODIES, validation.decode, kind, body)
