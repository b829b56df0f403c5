"""The names of all parsers, and which one a model's chat template or name asks for."""

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from appliance.core.errors import UsageError
from appliance.preprocess.tool_calls import json_blocks
from appliance.preprocess.tool_calls.calls import CallMaker
from appliance.preprocess.tool_calls.gemma import Gemma4
from appliance.preprocess.tool_calls.glm import Glm
from appliance.preprocess.tool_calls.grammar import Grammar, GrammarParser, ToolCallParser
from appliance.preprocess.tool_calls.harmony import Harmony
from appliance.preprocess.tool_calls.pythonic import Pythonic
from appliance.preprocess.tool_calls.tag_blocks import DSML, MINIMAX, QWEN3_CODER, TagBlocks
from appliance.preprocess.tool_calls.token_blocks import DeepSeekV3, KimiK2


@dataclass(frozen=True, kw_only=True)
class ParserKind:
    """What stands behind a parser's name."""

    grammar: Callable[[CallMaker], Grammar]
    special_tokens: bool = False
    """The models write the markers as special tokens, which a detokeniser drops unless told not to."""


_HERMES = ParserKind(grammar=json_blocks.Hermes)
_QWEN3_CODER = ParserKind(grammar=partial(TagBlocks, dialect=QWEN3_CODER))
_DSML = ParserKind(grammar=partial(TagBlocks, dialect=DSML), special_tokens=True)
_DEEPSEEK_V3 = ParserKind(grammar=DeepSeekV3, special_tokens=True)
_GEMMA4 = ParserKind(grammar=Gemma4, special_tokens=True)

TOOL_PARSERS: Mapping[str, ParserKind] = {
    "default": ParserKind(grammar=json_blocks.Default, special_tokens=True),
    "hermes": _HERMES,
    "qwen25": _HERMES,
    "nemotron_deci": ParserKind(grammar=json_blocks.NemotronDeci),
    "nemotron_nano": _QWEN3_CODER,
    "llama3_json": ParserKind(grammar=json_blocks.Llama3, special_tokens=True),
    "mistral": ParserKind(grammar=json_blocks.Mistral, special_tokens=True),
    "phi4": ParserKind(grammar=json_blocks.Phi4),
    "pythonic": ParserKind(grammar=Pythonic, special_tokens=True),
    "jamba": ParserKind(grammar=json_blocks.Jamba, special_tokens=True),
    "harmony": ParserKind(grammar=Harmony, special_tokens=True),
    "deepseek_v3": _DEEPSEEK_V3,
    "deepseek_v3_1": _DEEPSEEK_V3,
    "deepseek_v3_2": _DSML,
    "deepseek_v4": _DSML,
    "deepseek-v4": _DSML,
    "deepseekv4": _DSML,
    "qwen3_coder": _QWEN3_CODER,
    "minimax_m2": ParserKind(grammar=partial(TagBlocks, dialect=MINIMAX), special_tokens=True),
    "glm47": ParserKind(grammar=Glm, special_tokens=True),
    "kimi_k2": ParserKind(grammar=KimiK2, special_tokens=True),
    "gemma4": _GEMMA4,
    "gemma-4": _GEMMA4,
}

_IN_TEMPLATE: Sequence[tuple[tuple[str, ...], str]] = (
    (("<|tool_calls_section_begin|>",), "kimi_k2"),
    (("DSML\uff5c", "tool_calls>"), "deepseek_v4"),
    (("DSML\uff5c",), "deepseek_v3_2"),
    (("<\uff5ctool\u2581sep\uff5c>", "```json"), "deepseek_v3"),
    (("<\uff5ctool\u2581sep\uff5c>",), "deepseek_v3_1"),
    (("<|channel|>", "<|message|>"), "harmony"),
    (("<minimax:tool_call>",), "minimax_m2"),
    (("<|tool_call>",), "gemma4"),
    (("<arg_key>",), "glm47"),
    (("<function=", "<parameter="), "qwen3_coder"),
    (("<TOOLCALL>",), "nemotron_deci"),
    (("[TOOL_CALLS]",), "mistral"),
    (("<|python_tag|>",), "llama3_json"),
    (("<|python_start|>",), "pythonic"),
    (("<tool_calls>",), "jamba"),
    (("functools",), "phi4"),
    (("<tool_call>",), "hermes"),
)
"""Texts that all stand in a template, most telling first; it shows them to the model as the format to write."""

_IN_NAME: Sequence[tuple[str, str]] = (
    ("kimi-k2", "kimi_k2"),
    ("deepseek-v4", "deepseek_v4"),
    ("deepseek-v3.2", "deepseek_v3_2"),
    ("deepseek-v3.1", "deepseek_v3_1"),
    ("deepseek-v3", "deepseek_v3"),
    ("deepseek-r1-distill", ""),
    ("deepseek-r1", "deepseek_v3"),
    ("gpt-oss", "harmony"),
    ("minimax-m2", "minimax_m2"),
    ("gemma-4", "gemma4"),
    ("glm-4.5", "glm47"),
    ("glm-4.6", "glm47"),
    ("glm-4.7", "glm47"),
    ("glm-5", "glm47"),
    ("qwen3-coder", "qwen3_coder"),
    ("nemotron-nano", "nemotron_nano"),
    ("nemotron-3", "nemotron_nano"),
    ("nemotron", "nemotron_deci"),
    ("qwen2.5", "hermes"),
    ("qwen3", "hermes"),
    ("qwq", "hermes"),
    ("hermes", "hermes"),
    ("mistral", "mistral"),
    ("llama-4", "pythonic"),
    ("llama-3.1", "llama3_json"),
    ("llama-3.2", "llama3_json"),
    ("llama-3.3", "llama3_json"),
    ("phi-4", "phi4"),
    ("jamba", "jamba"),
)
"""Parts of model names, the more particular ones first."""


def new_call_id() -> str:
    """An id for a call whose format has none."""
    return f"call-{uuid.uuid4()}"


def make_tool_parser(
    name: str, tools: Sequence[Mapping[str, Any]] | None, *, new_id: Callable[[], str] = new_call_id
) -> ToolCallParser:
    """The parser of one answer. `tools`, as in the request, say what types arguments have.

    Raises `UsageError` for an unknown name. `auto` is no parser: `choose_tool_parser` gives the name for it.
    """
    return GrammarParser(_kind(name).grammar(CallMaker(tools, new_id)))


def needs_special_tokens(name: str) -> bool:
    """Whether the parser's markers are special tokens, to be kept in the text. Raises `UsageError` as above."""
    return _kind(name).special_tokens


def choose_tool_parser(template_source: str | None, model_name: str) -> str | None:
    """The name of the parser for a model, by the markers its chat template shows, else by its name; None if neither."""
    for texts, parser in _IN_TEMPLATE:
        if template_source and all(text in template_source for text in texts):
            return parser
    plain = model_name.lower().replace("_", "-").replace(" ", "-")
    for part, parser in _IN_NAME:
        if part in plain:
            return parser or None
    return None


def _kind(name: str) -> ParserKind:
    kind = TOOL_PARSERS.get(name.lower())
    if kind is None:
        raise UsageError(f"unknown tool call parser {name!r}; known are {', '.join(sorted(TOOL_PARSERS))}")
    return kind
