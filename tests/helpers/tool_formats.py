"""Writers of every tool-call wire format, and a way to run a parser over text cut into pieces."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from random import Random
from typing import Any

from appliance.core.output import OutputPart, TextPart, ToolCallPart
from appliance.preprocess.tool_calls import make_tool_parser

Call = tuple[str, dict[str, Any]]
Seen = str | tuple[str, str]
"""Text, or the name and arguments of a call."""

PROPERTIES = {
    "city": {"type": "string"},
    "days": {"type": "integer"},
    "share": {"type": "number"},
    "sure": {"type": "boolean"},
    "where": {"type": "object"},
    "list": {"type": "array"},
    "nothing": {"type": "null"},
    "name": {"type": "string"},
}
NAMES = ("get_weather", "get-time", "ns.lookup", "f")
TOOLS: list[dict[str, Any]] = [
    {"type": "function", "function": {"name": name, "parameters": {"type": "object", "properties": PROPERTIES}}}
    for name in NAMES
]


def compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def cut(text: str, size: int | None, random: Random | None = None) -> Iterator[str]:
    """The text in pieces of one size, of random sizes, or whole."""
    at = 0
    while at < len(text):
        step = random.randint(1, 12) if random else size or len(text)
        yield text[at : at + step]
        at += step


def parse(
    parser: str, pieces: Iterator[str], *, tools: Sequence[Mapping[str, Any]] | None = None, truncated: bool = False
) -> list[OutputPart]:
    """The parts of the text, neighbouring texts joined; ids are `id-0`, `id-1`, ..."""
    ids = count()
    machine = make_tool_parser(parser, TOOLS if tools is None else tools, new_id=lambda: f"id-{next(ids)}")
    parts: list[OutputPart] = []
    for piece in pieces:
        parts += machine.push(piece)
    return join(parts + machine.finish(truncated=truncated))


def join(parts: Sequence[OutputPart]) -> list[OutputPart]:
    joined: list[OutputPart] = []
    for part in parts:
        if isinstance(part, TextPart) and joined and isinstance(joined[-1], TextPart):
            joined[-1] = TextPart(joined[-1].text + part.text)
        else:
            joined.append(part)
    return joined


def seen(parts: Sequence[OutputPart]) -> list[Seen]:
    """What a reader compares: texts, and calls without ids."""
    found: list[Seen] = []
    for part in parts:
        if isinstance(part, ToolCallPart):
            found.append((part.name, part.arguments))
        elif isinstance(part, TextPart):
            found.append(part.text)
    return found


@dataclass(frozen=True, kw_only=True)
class Format:
    """One parser's format: `write` gives one block with these calls."""

    parser: str
    write: Callable[[Sequence[Call]], str]
    starts: tuple[str, ...]


def _objects(calls: Sequence[Call], key: str = "arguments") -> str:
    return json.dumps([{"name": name, key: arguments} for name, arguments in calls])


def _hermes(calls: Sequence[Call]) -> str:
    return "".join(f"<tool_call>\n{_objects([call])[1:-1]}\n</tool_call>" for call in calls)


def _llama(calls: Sequence[Call]) -> str:
    return "<|python_tag|>" + "; ".join(_objects([call], "parameters")[1:-1] for call in calls)


def _mistral_11(calls: Sequence[Call]) -> str:
    return "".join(f"[TOOL_CALLS]{name}[ARGS]{json.dumps(arguments)}" for name, arguments in calls)


def _pythonic(calls: Sequence[Call]) -> str:
    written = (f"{name}({', '.join(f'{key}={value!r}' for key, value in args.items())})" for name, args in calls)
    return f"[{', '.join(written)}]"


def _harmony(calls: Sequence[Call]) -> str:
    return "<|start|>assistant".join(
        f"<|channel|>commentary to=functions.{name} <|constrain|>json<|message|>{json.dumps(arguments)}<|call|>"
        for name, arguments in calls
    )


def _deepseek(text: str) -> str:
    return text.replace("|", "\uff5c").replace("_", "\u2581")


def _deepseek_v3(calls: Sequence[Call]) -> str:
    head, sep, end = map(_deepseek, ("<|tool_call_begin|>function", "<|tool_sep|>", "<|tool_call_end|>"))
    body = "\n".join(f"{head}{sep}{name}\n```json\n{json.dumps(args)}\n```{end}" for name, args in calls)
    return f"{_deepseek('<|tool_calls_begin|>')}{body}{_deepseek('<|tool_calls_end|>')}"


def _deepseek_v3_1(calls: Sequence[Call]) -> str:
    head, sep, end = map(_deepseek, ("<|tool_call_begin|>", "<|tool_sep|>", "<|tool_call_end|>"))
    body = "".join(f"{head}{name}{sep}{json.dumps(args)}{end}" for name, args in calls)
    return f"{_deepseek('<|tool_calls_begin|>')}{body}{_deepseek('<|tool_calls_end|>')}"


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _dsml(outer: str) -> Callable[[Sequence[Call]], str]:
    def write(calls: Sequence[Call]) -> str:
        lines = [f"<|DSML|{outer}>"]
        for name, arguments in calls:
            lines.append(f'<|DSML|invoke name="{name}">')
            for key, value in arguments.items():
                string = "true" if isinstance(value, str) else "false"
                lines.append(f'<|DSML|parameter name="{key}" string="{string}">{_plain(value)}</|DSML|parameter>')
            lines.append("</|DSML|invoke>")
        return "\n".join([*lines, f"</|DSML|{outer}>"]).replace("|DSML|", "\uff5cDSML\uff5c")

    return write


def _qwen3_coder(calls: Sequence[Call]) -> str:
    blocks = []
    for name, arguments in calls:
        body = "".join(
            f"<parameter={key}>\n{_escape(_plain(value))}\n</parameter>\n" for key, value in arguments.items()
        )
        blocks.append(f"<tool_call>\n<function={name}>\n{body}</function>\n</tool_call>")
    return "".join(blocks)


def _minimax(calls: Sequence[Call]) -> str:
    blocks = ["<minimax:tool_call>\n"]
    for name, arguments in calls:
        blocks.append(f'<invoke name="{name}">\n')
        blocks += [
            f'<parameter name="{key}">\n{_escape(_plain(value))}\n</parameter>\n' for key, value in arguments.items()
        ]
        blocks.append("</invoke>\n")
    return "".join([*blocks, "</minimax:tool_call>"])


def _glm(calls: Sequence[Call]) -> str:
    blocks = []
    for name, arguments in calls:
        body = "".join(
            f"<arg_key>{key}</arg_key>\n<arg_value>\n{_escape(_plain(value))}\n</arg_value>\n"
            for key, value in arguments.items()
        )
        blocks.append(f"<tool_call>{name}\n{body}</tool_call>")
    return "".join(blocks)


def _kimi(calls: Sequence[Call]) -> str:
    body = "".join(
        f"<|tool_call_begin|>functions.{name}:{at}<|tool_call_argument_begin|>{json.dumps(args)}<|tool_call_end|>"
        for at, (name, args) in enumerate(calls)
    )
    return f"<|tool_calls_section_begin|>{body}<|tool_calls_section_end|>"


def _gemma_value(value: Any) -> str:
    if isinstance(value, str):
        return f'<|"|>{value}<|"|>'
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{_gemma_value(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_gemma_value, value)) + "]"
    return json.dumps(value)


def _gemma(calls: Sequence[Call]) -> str:
    return "".join(f"<|tool_call>call:{name}{_gemma_value(arguments)}<tool_call|>" for name, arguments in calls)


_BEGIN = (_deepseek("<|tool_calls_begin|>"),)
FORMATS = (
    Format(parser="hermes", write=_hermes, starts=("<tool_call>",)),
    Format(
        parser="nemotron_deci", write=lambda calls: f"<TOOLCALL>{_objects(calls)}</TOOLCALL>", starts=("<TOOLCALL>",)
    ),
    Format(parser="default", write=lambda calls: f"<TOOLCALL>{_objects(calls)}</TOOLCALL>", starts=("<TOOLCALL>",)),
    Format(parser="jamba", write=lambda calls: f"<tool_calls>{_objects(calls)}</tool_calls>", starts=("<tool_calls>",)),
    Format(parser="llama3_json", write=_llama, starts=("<|python_tag|>",)),
    Format(parser="mistral", write=lambda calls: f"[TOOL_CALLS]{_objects(calls)}", starts=("[TOOL_CALLS]",)),
    Format(parser="mistral", write=_mistral_11, starts=("[TOOL_CALLS]",)),
    Format(parser="phi4", write=lambda calls: f"functools{_objects(calls)}", starts=("functools",)),
    Format(parser="pythonic", write=_pythonic, starts=("[",)),
    Format(parser="harmony", write=_harmony, starts=("<|channel|>",)),
    Format(parser="deepseek_v3", write=_deepseek_v3, starts=_BEGIN),
    Format(parser="deepseek_v3_1", write=_deepseek_v3_1, starts=_BEGIN),
    Format(parser="deepseek_v3_2", write=_dsml("function_calls"), starts=("<\uff5cDSML\uff5cfunction_calls>",)),
    Format(parser="deepseek_v4", write=_dsml("tool_calls"), starts=("<\uff5cDSML\uff5ctool_calls>",)),
    Format(parser="qwen3_coder", write=_qwen3_coder, starts=("<tool_call>",)),
    Format(parser="minimax_m2", write=_minimax, starts=("<minimax:tool_call>",)),
    Format(parser="glm47", write=_glm, starts=("<tool_call>",)),
    Format(parser="kimi_k2", write=_kimi, starts=("<|tool_calls_section_begin|>",)),
    Format(parser="gemma4", write=_gemma, starts=("<|tool_call>",)),
)
