"""Foreign servers that are asked by text: TensorRT-LLM and vLLM for models whose tokenizer is not here."""

import sys
from pathlib import Path
from typing import Any

import pytest

from appliance.core.identity import ModelName, RequestId
from appliance.core.model_facts import EngineOptions
from appliance.core.ports import Engine
from appliance.core.requests import EngineRequest, StopConditions
from appliance.engines.trtllm import TrtLlmEngine
from appliance.engines.vllm import VllmEngine
from appliance.roles.engine_choice import nothing_known
from tests.helpers.engines import answer, running
from tests.helpers.foreign_engines import STAND_INS, around

pytestmark = pytest.mark.usefixtures("deadline")

TRTLLM = f"{sys.executable} -m tests.fakes.engines.fake_openai"


def chat(text: str, **fields: Any) -> EngineRequest:
    messages = [{"role": "user", "content": text}]
    stop = StopConditions(max_tokens=50)
    return EngineRequest(id=RequestId("r"), model=ModelName("m"), messages=messages, stop=stop, **fields)


async def test_tensorrt_llm_takes_and_gives_text() -> None:
    options = EngineOptions(served_name="mine", context_length=512, args={"command": TRTLLM, "max_num_seqs": "3"})
    engine: Engine = TrtLlmEngine(nothing_known("/models/tiny"), options, around())
    async with running(engine) as card:
        assert (card.io, card.name, card.context_length, card.kv_events) == ("text", "mine", 512, False)
        sink = await answer(engine, chat("hello"))
        assert (sink.said, sink.finish) == ("you said: hello", "stop")


async def test_vllm_is_asked_by_text_without_a_tokenizer(tmp_path: Path) -> None:
    options = EngineOptions(served_name="mine", args={"command": STAND_INS["vllm"]})
    engine: Engine = VllmEngine(nothing_known("org/model"), options, around())
    async with running(engine) as card:
        assert (card.io, card.name, card.context_length, card.files) == ("text", "mine", 512, {})
        sink = await answer(engine, chat("hello"))
        assert (sink.said, len(sink.token_ids)) == ("you said: hello", 5)
