"""Running engines in tests: facts of the demo model, requests in one line, a sink that remembers."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import trio
from tokenizers import Tokenizer

from appliance.core.identity import ModelName, RequestId
from appliance.core.model_facts import ModelFacts
from appliance.core.ports import BackgroundEngine, Engine
from appliance.core.requests import (
    EngineRequest,
    EngineUsage,
    FinishReason,
    ModelCard,
    Sampling,
    StopConditions,
    TokenLogprob,
)
from appliance.models.demo import demo_model_path
from appliance.models.facts import describe_model

GREEDY = Sampling(temperature=0)
KV_QUESTION = "<|im_start|>user\nWhat is a KV cache?<|im_end|>\n<|im_start|>assistant\n"
KV_ANSWER = "A KV cache keeps the keys and values of past tokens, so that they are not computed again."


@cache
def demo_facts() -> ModelFacts:
    """What is known of the demo model."""
    return describe_model(demo_model_path())


@cache
def demo_tokenizer() -> Tokenizer:
    """The demo model's tokenizer."""
    return Tokenizer.from_buffer(demo_facts().files["tokenizer.json"])


def tokens_of(text: str) -> list[int]:
    """Token ids of a text, special tokens parsed."""
    token_ids: list[int] = demo_tokenizer().encode(text, add_special_tokens=False).ids
    return token_ids


def text_of(token_ids: list[int]) -> str:
    """Text of token ids."""
    text: str = demo_tokenizer().decode(token_ids)
    return text


def make_request(prompt: list[int] | str = KV_QUESTION, *, max_tokens: int = 8, **fields: Any) -> EngineRequest:
    """A request; fields of `StopConditions` and of `EngineRequest` are told apart by name."""
    stop = {name: fields.pop(name) for name in ("min_tokens", "stop_token_ids", "ignore_eos") if name in fields}
    return EngineRequest(
        id=RequestId("r"),
        model=ModelName("demo"),
        token_ids=tokens_of(prompt) if isinstance(prompt, str) else prompt,
        stop=StopConditions(max_tokens=max_tokens, **stop),
        **fields,
    )


@dataclass
class CollectingSink:
    """Remembers everything; fails the test when an engine goes on after its finish."""

    token_ids: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    finish: FinishReason | None = None
    usage: EngineUsage | None = None
    handover: dict[str, Any] | None = None
    said: str = ""
    """The text of an engine that speaks text."""
    calls: int = 0
    first: trio.Event = field(default_factory=trio.Event)

    def emit(
        self,
        token_ids: list[int],
        finish: FinishReason | None = None,
        usage: EngineUsage | None = None,
        logprobs: list[TokenLogprob] | None = None,
        handover: dict[str, Any] | None = None,
        text: str | None = None,
    ) -> None:
        assert self.finish is None, "a call after the one with finish"
        assert (finish is None) == (usage is None), "usage comes with the finish, and only then"
        assert logprobs is None or len(logprobs) == len(token_ids)
        self.calls += 1
        self.token_ids += token_ids
        self.logprobs += logprobs or []
        self.said += text or ""
        self.finish, self.usage, self.handover = finish, usage, handover
        self.first.set()

    async def room(self) -> None:
        await trio.lowlevel.checkpoint()

    @property
    def text(self) -> str:
        return text_of(self.token_ids)


@asynccontextmanager
async def running(engine: Engine) -> AsyncGenerator[ModelCard, None]:
    """A started engine with its background work; closed at the end."""
    async with trio.open_nursery() as nursery:
        card = await engine.start(lambda fraction, text: None)
        if isinstance(engine, BackgroundEngine):
            await nursery.start(engine.run)
        try:
            yield card
        finally:
            with trio.fail_after(10):
                await engine.close()
        nursery.cancel_scope.cancel()


async def answer(engine: Engine, request: EngineRequest) -> CollectingSink:
    """Run one stream to its end."""
    sink = CollectingSink()
    await engine.generate(request, sink)
    return sink
