"""From requests to engine requests."""

from typing import Any

import msgspec
import pytest

from appliance.core.errors import EngineFailed, InvalidRequest
from appliance.core.generation import GenerationRequest
from appliance.core.identity import ModelName, RequestId
from appliance.core.requests import ModelCard, Sampling
from appliance.preprocess.prepare import PromptBuilder
from appliance.preprocess.template import ChatTemplate
from tests.helpers.tokenizers import FOLDER, demo_tokenizer, sentence_piece_tokenizer

CARD = ModelCard(
    name=ModelName("m"),
    context_length=64,
    engine="llamacpp",
    eos_token="<|im_end|>",
    eos_token_ids=(0, 2),
    vocab_size=2048,
)
HI = [{"role": "user", "content": "Hi"}]


def chat(**fields: Any) -> GenerationRequest:
    fields = {"messages": HI, "endpoint": "chat_completions", **fields}
    return GenerationRequest(id=RequestId("r"), model=ModelName("m"), **fields)


def completion(*prompts: str | list[int], **fields: Any) -> GenerationRequest:
    return chat(messages=None, prompts=list(prompts), endpoint="completions", **fields)


def builder(*, template: str | None = "file", **changes: Any) -> PromptBuilder:
    source = (FOLDER / "chat_template.jinja").read_text() if template == "file" else template
    made = None if source is None else ChatTemplate(source, bos_token="", eos_token="<|im_end|>")
    return PromptBuilder(msgspec.structs.replace(CARD, **changes), demo_tokenizer(), made)


async def test_chat() -> None:
    request = chat(sampling=Sampling(temperature=0.0), min_tokens=99)
    prompts = builder()
    [prepared] = await prompts.prepare(request)
    assert prepared.text == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    assert prepared.token_ids == demo_tokenizer().encode(prepared.text)
    assert prepared.max_tokens == 64 - len(prepared.token_ids)
    [asked] = prompts.engine_requests([prepared], request)
    assert asked.stop.max_tokens == asked.stop.min_tokens == prepared.max_tokens
    assert asked.stop.stop_token_ids == (0, 2)
    assert (asked.id, asked.model, asked.token_ids) == ("r", "m", prepared.token_ids)


async def test_ignore_eos_and_limits() -> None:
    request = chat(ignore_eos=True, max_tokens=5, min_tokens=2)
    prompts = builder()
    [asked] = prompts.engine_requests(await prompts.prepare(request), request)
    assert asked.stop.stop_token_ids == ()
    assert (asked.stop.ignore_eos, asked.stop.max_tokens, asked.stop.min_tokens) == (True, 5, 2)
    request = chat(max_tokens=5000)
    [asked] = prompts.engine_requests(await prompts.prepare(request), request)
    assert asked.stop.max_tokens == 64 - len(asked.token_ids)


async def test_choices_follow_the_prompts_and_raise_the_seed() -> None:
    request = completion("one", "two", n=2, sampling=Sampling(seed=7))
    prompts = builder()
    asked = prompts.engine_requests(await prompts.prepare(request), request)
    one, two = demo_tokenizer().encode("one"), demo_tokenizer().encode("two")
    assert [each.token_ids for each in asked] == [one, one, two, two]
    assert [each.sampling.seed for each in asked] == [7, 8, 9, 10]


async def test_context_overflow_names_the_numbers() -> None:
    with pytest.raises(
        InvalidRequest, match=r"maximum context length is 64 tokens, but the prompt has 64; please shorten"
    ):
        await builder().prepare(completion([5] * 64))
    with pytest.raises(InvalidRequest, match=r"maximum context length is 64 tokens, but the messages have \d+"):
        await builder().prepare(chat(messages=[{"role": "user", "content": "long " * 100}]))
    [last] = await builder().prepare(completion([5] * 63))
    assert last.max_tokens == 1


async def test_empty_prompts() -> None:
    [prepared] = await builder().prepare(completion(""))
    assert prepared.token_ids == [0]
    with pytest.raises(InvalidRequest, match="prompt may not be empty"):
        await builder(eos_token_ids=()).prepare(completion(""))
    with pytest.raises(InvalidRequest, match="prompt may not be empty"):
        await builder().prepare(completion([]))
    with pytest.raises(InvalidRequest, match="messages may not be empty"):
        await builder().prepare(chat(messages=[]))
    with pytest.raises(InvalidRequest, match="empty prompt"):
        await builder(template="{# nothing #}").prepare(chat())


async def test_ids_outside_the_vocabulary() -> None:
    for wrong in (-1, 2048):
        with pytest.raises(InvalidRequest, match="vocabulary of 2048 tokens"):
            await builder().prepare(completion([1, wrong]))


async def test_token_data_replaces_the_prompt() -> None:
    [prepared] = await builder().prepare(chat(token_ids=[9, 8]))
    assert (prepared.token_ids, prepared.text) == ([9, 8], "")


async def test_begin_token_is_put_before_plain_prompts_only() -> None:
    card = msgspec.structs.replace(CARD, add_bos=True, bos_token="<s>")
    template = ChatTemplate("{{ bos_token }}{{ messages[0].content }}", bos_token="<s>", eos_token="</s>")
    prompts = PromptBuilder(card, sentence_piece_tokenizer(), template)
    [plain] = await prompts.prepare(completion("hello"))
    [written] = await prompts.prepare(completion("<s>hello"))
    [chatted] = await prompts.prepare(chat())
    assert plain.token_ids == written.token_ids
    assert plain.token_ids[0] == chatted.token_ids[0] == 1
    assert chatted.token_ids.count(1) == 1
    [ids] = await prompts.prepare(completion([5]))
    assert ids.token_ids == [5]
    [without_template] = await PromptBuilder(card, sentence_piece_tokenizer(), None).prepare(chat())
    assert without_template.token_ids[0] == 1


async def test_without_a_template() -> None:
    messages = [{"role": "system", "content": "Be brief."}, *HI]
    [prepared] = await builder(template=None).prepare(chat(messages=messages))
    assert prepared.text == "system: Be brief.\nuser: Hi\nassistant:"
    [raw] = await builder(template=None).prepare(chat(messages=messages, use_raw_prompt=True))
    assert raw.text == "Be brief.Hi"


async def test_tool_template_and_opened_arguments() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}
    broken = {"id": "2", "type": "function", "function": {"name": "f", "arguments": "{x"}}
    messages: list[dict[str, Any]] = [*HI, {"role": "assistant", "content": None, "tool_calls": [call, broken]}]
    source = "{% for c in messages[1].tool_calls %}{{ c.function.arguments | tojson }};{% endfor %}{{ tools | tojson }}"
    tool_template = ChatTemplate(source, bos_token="", eos_token="")
    plain = ChatTemplate("plain", bos_token="", eos_token="")
    prompts = PromptBuilder(CARD, demo_tokenizer(), plain, tool_template)
    [prepared] = await prompts.prepare(chat(messages=messages, tools=[{"type": "function"}]))
    assert prepared.text == '{"x": 1};"{x";[{"type": "function"}]'
    [prepared] = await prompts.prepare(chat(messages=messages))
    assert prepared.text == "plain"
    assert messages[1]["tool_calls"] == [call, broken]


async def test_template_arguments_reach_the_template_but_replace_nothing() -> None:
    prompts = builder(template="{{ enable_thinking }} {{ add_generation_prompt }} {{ messages[0].content }}")
    arguments = {"enable_thinking": 1, "messages": "x", "add_generation_prompt": False}
    [prepared] = await prompts.prepare(chat(template_args=arguments))
    assert prepared.text == "1 False Hi"


async def test_workers_that_take_text() -> None:
    prompts = PromptBuilder(msgspec.structs.replace(CARD, io="text"), None, None)
    request = chat(max_tokens=9)
    [asked] = prompts.engine_requests(await prompts.prepare(request), request)
    assert (asked.token_ids, asked.messages, asked.text, asked.stop.max_tokens) == ([], HI, None, 9)
    request = completion("a", "b")
    assert [each.text for each in prompts.engine_requests(await prompts.prepare(request), request)] == ["a", "b"]
    with pytest.raises(InvalidRequest, match="takes text only"):
        await prompts.prepare(completion([1]))


async def test_asking_the_worker_to_tokenize() -> None:
    async def ask(text: str) -> list[int]:
        return [len(text)]

    [prepared] = await PromptBuilder(CARD, None, None, ask_worker=ask).prepare(completion("four"))
    assert prepared.token_ids == [4]
    with pytest.raises(EngineFailed, match="no tokenizer"):
        await PromptBuilder(CARD, None, None).prepare(completion("four"))


async def test_embedding_inputs() -> None:
    prompts = builder(task="embed")
    assert await prompts.input_ids("Hi") == demo_tokenizer().encode("Hi")
    assert await prompts.input_ids([1, 2]) == [1, 2]
    with pytest.raises(InvalidRequest, match="input may not be empty"):
        await prompts.input_ids("")
    with pytest.raises(InvalidRequest, match="the input has 65"):
        await prompts.input_ids([1] * 65)
