"""vLLM as an engine: its server is started beside the worker, or reached where it runs."""

from appliance.engines.vllm.engine import VllmEngine

__all__ = ["VllmEngine"]
