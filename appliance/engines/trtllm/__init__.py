"""TensorRT-LLM as an engine: its server takes text."""

from appliance.engines.trtllm.engine import TrtLlmEngine

__all__ = ["TrtLlmEngine"]
