"""The words that servers have for the end of a stream."""

from appliance.core.errors import EngineFailed, WorkerLost
from appliance.core.requests import FinishReason

_WORDS: dict[str, FinishReason] = {
    "stop": "stop",
    "eos": "stop",
    "eos_token": "stop",
    "stop_sequence": "stop",
    "tool_calls": "stop",
    "function_call": "stop",
    "content_filter": "stop",
    "repetition": "stop",
    "length": "length",
    "max_tokens": "length",
}


def finish_of(word: str) -> FinishReason:
    """Our word. Raises `WorkerLost` when the server gave the stream up, `EngineFailed` when the engine failed."""
    if word in ("abort", "aborted", "cancelled"):
        raise WorkerLost("the engine's server gave this request up")
    if word in ("error", "timeout"):
        raise EngineFailed("the engine could not go on with this request")
    return _WORDS.get(word, "stop")
