"""The request class: bodies are decoded straight into the type of the handler's `data`."""

from typing import Any

from litestar import Request

from erp_service import texts, validation
from erp_service.access.principals import Principal


class ApiRequest(Request[Principal, Any, Any]):
    """Decodes the body straight into the type of the handler's `data`: no floats, no `"5"` for 5, every fault named."""

    async def json(self) -> Any:
        handler: Any = self.route_handler
        body = await texts.normalised_json(await self.body())
        return validation.decode(handler.parsed_fn_signature.parameters["data"].annotation, body)
