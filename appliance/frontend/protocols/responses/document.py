"""The response object and its output items, as whole answers and the larger stream events show them."""

import time
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Any

import msgspec

from appliance.core.errors import ApplianceError
from appliance.core.generation import GenerationRequest
from appliance.core.output import OutputPart, ReasoningPart, TextPart, ToolCallPart
from appliance.frontend.protocols.openai.documents import chat_logprobs
from appliance.frontend.streams.outcome import ChoiceOutcome, Members, TokenDetail, Usage

encode = msgspec.json.Encoder().encode
Item = dict[str, Any]

PREFIXES: dict[type[OutputPart], str] = {TextPart: "msg_", ReasoningPart: "rs_", ToolCallPart: "fc_"}


class ResponseHead:
    """What stays the same in all response objects of one answer, and makes ids of items."""

    def __init__(self, request: GenerationRequest) -> None:
        self._hex = request.id.replace("-", "")
        self._members = {
            "id": f"resp_{self._hex}",
            "object": "response",
            "created_at": int(time.time()),
            "model": request.model,
            **request.repeated,
        }

    def item_id(self, kind: type[OutputPart], index: int) -> str:
        """The id of the item at one place of the output."""
        return f"{PREFIXES[kind]}{self._hex[:24]}{index:08x}"

    def response(
        self,
        status: str,
        output: Iterable[Item] = (),
        *,
        usage: Usage | None = None,
        error: ApplianceError | None = None,
        nvext: Members | None = None,
    ) -> dict[str, Any]:
        """The response object in one of its published states."""
        incomplete = {"reason": "max_output_tokens"} if status == "incomplete" else None
        shown = self._members | {
            "status": status,
            "completed_at": int(time.time()) if status == "completed" else None,
            "error": None if error is None else error_object(error),
            "incomplete_details": incomplete,
            "output": list(output),
            "usage": None if usage is None else usage_object(usage),
        }
        return {**shown, "nvext": nvext} if nvext else shown


def error_object(error: ApplianceError) -> dict[str, str]:
    """A response's `error`; its codes are a published list that has no better ones for us."""
    if error.kind == "rate_limit_error":
        code = "rate_limit_exceeded"
    else:
        code = "server_error" if error.status >= 500 else "invalid_prompt"
    return {"code": code, "message": error.message}


def usage_object(usage: Usage) -> dict[str, Any]:
    """`usage` in the shape of this protocol."""
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }


def logprob_list(details: Sequence[TokenDetail]) -> list[dict[str, Any]]:
    """A text's `logprobs`; a token looks as in chat."""
    content: list[dict[str, Any]] = chat_logprobs(details)["content"]
    return content


def text_part(text: str, details: Sequence[TokenDetail] = ()) -> dict[str, Any]:
    """The one content part of a message."""
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": logprob_list(details)}


def message_item(id: str, status: str, content: list[dict[str, Any]]) -> Item:
    """An output item of text; without content it has just begun."""
    return {"type": "message", "id": id, "status": status, "role": "assistant", "content": content}


def reasoning_item(id: str, status: str, text: str) -> Item:
    """An output item of reasoning, shown as its own summary; without text it has just begun."""
    summary = [{"type": "summary_text", "text": text}] if text else []
    return {"type": "reasoning", "id": id, "status": status, "summary": summary}


def call_item(id: str, status: str, call: ToolCallPart, arguments: str) -> Item:
    """An output item of a function call."""
    return {
        "type": "function_call",
        "id": id,
        "status": status,
        "call_id": call.id,
        "name": call.name,
        "arguments": arguments,
    }


def outcome_items(head: ResponseHead, outcome: ChoiceOutcome) -> list[Item]:
    """The output of a finished choice; the text or reasoning that was cut off is incomplete. Never empty."""
    parts = outcome.parts or [TextPart("")]
    items: list[Item] = []
    for index, part in enumerate(parts):
        id = head.item_id(type(part), index)
        cut = outcome.finish == "length" and index == len(parts) - 1
        status = "incomplete" if cut else "completed"
        match part:
            case TextPart(text):
                details = outcome.details or ()
                own = details if len(parts) == 1 else _details_of(text, details)
                items.append(message_item(id, status, [text_part(text, own)]))
            case ReasoningPart(text):
                items.append(reasoning_item(id, status, text))
            case ToolCallPart():
                items.append(call_item(id, "completed", part, part.arguments))
    return items


def _details_of(text: str, details: Sequence[TokenDetail]) -> list[TokenDetail]:
    """Details of the tokens that one of several parts is made of; those of reasoning, calls and marks are left out."""
    ends = list(accumulate(len(detail.bytes) for detail in details))
    start = b"".join(bytes(detail.bytes) for detail in details).rfind(text.encode())
    if start < 0:
        return []
    end = start + len(text.encode())
    return [d for d, d_end in zip(details, ends, strict=True) if start < d_end and d_end - len(d.bytes) < end]
