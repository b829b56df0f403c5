"""The OpenAPI document of the public port, made from the types that requests are read into."""

from appliance.frontend.control.openapi.document import describe_api

__all__ = ["describe_api"]
