"""An engine without a model: words by chance or a prepared text at a set pace, for tests and benchmarks."""

from appliance.engines.mocker.engine import MockerEngine

__all__ = ["MockerEngine"]
