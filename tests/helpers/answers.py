"""Answers of tests: made from a request body, fed with text, read back as events."""

import itertools
import json
from collections.abc import Callable
from typing import Any

from appliance.core.generation import GenerationRequest
from appliance.core.identity import RequestId
from appliance.core.requests import EngineUsage, FinishReason, TokenChunk, TokenLogprob
from appliance.frontend.protocols.openai.decode import decode_chat, decode_completion
from appliance.frontend.protocols.openai.formats import chat_format, completion_format
from appliance.frontend.streams import seams
from appliance.frontend.streams.answer import Answer, PromptFacts
from appliance.preprocess.output_parser import OutputParser
from appliance.preprocess.reasoning import make_reasoning_parser
from appliance.preprocess.tool_calls.names import make_tool_parser
from tests.fakes.client import RecordingClient
from tests.fakes.text import byte_tools

ID = RequestId("11111111-2222-4333-8444-555555555555")
SAY_HI = [{"role": "user", "content": "hi"}]


def chat_request(**members: Any) -> GenerationRequest:
    """A decoded chat request."""
    return decode_chat(json.dumps({"model": "m", "messages": SAY_HI, **members}).encode(), ID)


def completion_request(**members: Any) -> GenerationRequest:
    """A decoded completion request."""
    return decode_completion(json.dumps({"model": "m", "prompt": "hi", **members}).encode(), ID)


def make_answer(
    request: GenerationRequest,
    client: RecordingClient,
    preamble: bytes = b"",
    *,
    parser: Callable[[], seams.OutputParser | None] = lambda: None,
    format: seams.AnswerFormat | None = None,
) -> Answer:
    """An answer whose tokens are bytes; each prompt counts 7 tokens."""
    make_format = chat_format if request.endpoint == "chat_completions" else completion_format
    prompts = [
        PromptFacts(7, prompt if request.echo and isinstance(prompt, str) else "")
        for prompt in (request.prompts or [""])
    ]
    tools = byte_tools(request.stop, parser)
    return Answer(request, client, format or make_format(request), tools, prompts, preamble=preamble)


def hermes(request: GenerationRequest) -> OutputParser:
    """The parser of a model that thinks between `<think>` marks; ids of its calls count from 0."""
    ids = (f"call-{number}" for number in itertools.count())
    tools = make_tool_parser("hermes", request.tools, new_id=lambda: next(ids)) if request.tools else None
    return OutputParser(make_reasoning_parser("qwen3"), tools)


def chunk(text: str = "", finish: FinishReason | None = None, *, logprobs: bool = False) -> TokenChunk:
    """One engine step that gives the bytes of a text."""
    ids = list(text.encode())
    usage = None if finish is None else EngineUsage(prompt_tokens=7, completion_tokens=0, cached_tokens=3)
    details = [TokenLogprob(-0.5, [(i, -0.5), (ord("z"), float("-inf"))]) for i in ids] if logprobs else None
    return TokenChunk(stream=1, token_ids=ids, finish=finish, usage=usage, logprobs=details)


def feed(answer: Answer, *steps: TokenChunk, choice: int = 0) -> None:
    """What the pump does: each step in a read of its own."""
    for step in steps:
        answer.choices[choice].on_chunk(step)
        answer.choices[choice].flush()


def read_events(body: bytes) -> list[Any]:
    """JSON values of the `data:` lines; checks that the end mark is last and removes it."""
    values = [line.removeprefix("data: ") for line in body.decode().split("\n") if line.startswith("data: ")]
    assert values[-1] == "[DONE]"
    return [json.loads(value) for value in values[:-1]]
