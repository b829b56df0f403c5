"""How a model's answers get their text: which special tokens are shown, and that a completion is not parsed."""

from typing import Any

import pytest

from appliance.core.generation import GenerationRequest
from appliance.core.identity import Digest, ModelName
from appliance.core.requests import FileRef, ModelCard
from appliance.frontend.catalog import ServedModel
from appliance.frontend.service import text_tools
from tests.helpers.answers import chat_request, completion_request
from tests.helpers.tokenizers import FOLDER, demo_tokenizer

TOOLS = [{"type": "function", "function": {"name": "f"}}]
SAID = "<|im_start|>Hi<|im_end|>"


async def no_worker(text: str) -> list[int]:
    raise AssertionError(text)


def served(parser: str) -> ServedModel:
    end = demo_tokenizer().token_id("<|im_end|>")
    assert end is not None
    card = ModelCard(
        name=ModelName("m"),
        context_length=64,
        engine="mocker",
        eos_token_ids=(end,),
        files={"tokenizer.json": FileRef(digest=Digest("d"), size_bytes=1)},
        tool_call_parser=parser,
        reasoning_parser="none",
    )
    return ServedModel(card, {"tokenizer.json": (FOLDER / "tokenizer.json").read_bytes()}, no_worker)


async def shown(parser: str, request: GenerationRequest) -> tuple[str, bool]:
    """Text of a fixed output, and whether it goes through a parser."""
    model = served(parser)
    prepared = await model.prompts.prepare(request)
    tools = text_tools(model, request, model.prompts.parsing(request, prepared))
    detokeniser = tools.detokeniser()
    text = detokeniser.push(demo_tokenizer().encode(SAID)) + detokeniser.finish()
    return text, tools.parser() is not None


@pytest.mark.parametrize(
    ("parser", "members", "expected"),
    [
        ("harmony", {"tools": TOOLS}, ("<|im_start|>Hi", True)),
        ("harmony", {"tools": TOOLS, "skip_special_tokens": False}, (SAID, True)),
        ("harmony", {}, ("Hi", False)),
        ("hermes", {"tools": TOOLS}, ("Hi", True)),
        ("none", {"tools": TOOLS}, ("Hi", False)),
    ],
)
async def test_special_tokens_are_shown_to_parsers_that_need_them(
    parser: str, members: dict[str, Any], expected: tuple[str, bool]
) -> None:
    assert await shown(parser, chat_request(**members)) == expected


async def test_completions_are_not_parsed() -> None:
    assert await shown("harmony", completion_request()) == ("Hi", False)
