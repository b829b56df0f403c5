"""SGLang as an engine: its server is started beside the worker, or reached where it runs."""

from appliance.engines.sglang.engine import SglangEngine

__all__ = ["SglangEngine"]
