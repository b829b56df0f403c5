"""Which parsers a model's output goes through, and how the answers to one request are parsed."""

import difflib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from appliance.core.errors import UsageError
from appliance.core.generation import GenerationRequest
from appliance.preprocess.guided_calls import GuidedCalls, is_forced, named_function
from appliance.preprocess.output_parser import OutputParser
from appliance.preprocess.reasoning import (
    REASONING_PARSERS,
    choose_reasoning_parser,
    make_reasoning_parser,
    needs_special_tokens,
    reasoning_at_start,
)
from appliance.preprocess.tool_calls import names as tool_parsers

AUTO, NONE = "auto", "none"


@dataclass(frozen=True, kw_only=True)
class ParserNames:
    """The parsers of one model; None: its output is not looked at for that."""

    tools: str | None = None
    reasoning: str | None = None


def check_parser_names(tools: str | None, reasoning: str | None) -> None:
    """Raise `UsageError`, with the nearest known name, for a parser that does not exist."""
    _check("--tool-call-parser", tools, tool_parsers.TOOL_PARSERS)
    _check("--reasoning-parser", reasoning, REASONING_PARSERS)


def choose_parsers(tools: str | None, reasoning: str | None, template: str | None, model: str) -> ParserNames:
    """The parsers of a model whose user asked for these; `auto`, or None, goes by its template or name."""
    return ParserNames(
        tools=tool_parsers.choose_tool_parser(template, model) if tools in (None, AUTO) else _named(tools),
        reasoning=choose_reasoning_parser(template, model) if reasoning in (None, AUTO) else _named(reasoning),
    )


@dataclass(frozen=True, kw_only=True)
class AnswerParsing:
    """How the output of one request's choices is parsed."""

    make: Callable[[], OutputParser]
    """A fresh parser for one choice and attempt."""
    special_tokens: bool = False
    """Marks are special tokens, so that the text must be decoded with these; end tokens are to be left out."""


def plan_parsing(request: GenerationRequest, names: ParserNames, prompt: str) -> AnswerParsing | None:
    """The parsing of a chat's answers; None when all of the output is text.

    `prompt` is empty when only its token ids are known. Constrained output is what the client asked for from its first
    character on, so it holds no reasoning, and calls only where the constraint is a call.
    """
    if request.messages is None or (request.tool_choice == "auto" and not request.tools and names.reasoning is None):
        return None
    if is_forced(request.tool_choice):
        name = named_function(request.tool_choice)
        return AnswerParsing(make=lambda: OutputParser(None, GuidedCalls(name)))
    tools = names.tools if request.tools and request.tool_choice != "none" else None
    if request.guided is not None or (tools is None and names.reasoning is None):
        return None
    special = tools is not None and tool_parsers.needs_special_tokens(tools)
    if names.reasoning is not None:
        special = special or needs_special_tokens(names.reasoning)
    make = partial(_parser, request, tools, names.reasoning, prompt)
    return AnswerParsing(make=make, special_tokens=special)


def _parser(request: GenerationRequest, tools: str | None, reasoning: str | None, prompt: str) -> OutputParser:
    inside = None if reasoning is None else reasoning_at_start(reasoning, prompt)
    return OutputParser(
        None if reasoning is None else make_reasoning_parser(reasoning, starts_inside=inside),
        None if tools is None else tool_parsers.make_tool_parser(tools, request.tools),
    )


def _named(name: str | None) -> str | None:
    return None if name == NONE else name


def _check(flag: str, name: str | None, known: Iterable[str]) -> None:
    names = [AUTO, NONE, *known]
    if name is None or name.lower() in names:
        return
    near = difflib.get_close_matches(name.lower(), names, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(names)}"
    raise UsageError(f"{flag} {name!r} does not exist; {hint}", param=flag)
