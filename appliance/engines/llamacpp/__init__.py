"""The embedded engine: llama.cpp inside the worker process, tokens in and tokens out. See DESIGN.md."""

from appliance.engines.llamacpp.engine import LlamaCppEngine

__all__ = ["LlamaCppEngine"]
