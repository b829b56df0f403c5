"""The Dynamo appliance: one executable that turns a GPU box into an LLM serving platform."""

__version__ = "0.1.0"
