"""Any server with OpenAI's API as an engine: text in, text out."""

from appliance.engines.remote.engine import RemoteEngine

__all__ = ["RemoteEngine"]
