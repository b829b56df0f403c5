"""Schemas of the answers. They leave nothing open, so that a member that the code adds must be added here."""

from typing import Any

import msgspec

from appliance.core.records import BusyThreshold
from appliance.frontend.control.openapi.requests import Schema, reference
from appliance.frontend.control.views import InstanceView
from appliance.frontend.protocols.openai.token_schema import DetokenizeAnswer, TokenizeAnswer

STRING: Schema = {"type": "string"}
INTEGER: Schema = {"type": "integer"}
COUNT: Schema = {"type": "integer", "minimum": 0}
NUMBER: Schema = {"type": "number"}
BOOLEAN: Schema = {"type": "boolean"}
NULL: Schema = {"type": "null"}
ANY: Schema = {}


def one_of(*values: str) -> Schema:
    """A text out of a few."""
    return {"type": "string", "enum": list(values)}


def array(items: Schema) -> Schema:
    """A list."""
    return {"type": "array", "items": items}


def nullable(schema: Schema) -> Schema:
    """The schema, or null."""
    return {"anyOf": [schema, NULL]}


def record(optional: dict[str, Schema] | None = None, /, **required: Schema) -> Schema:
    """An object with exactly these members."""
    return {
        "type": "object",
        "required": list(required),
        "properties": {**required, **(optional or {})},
        "additionalProperties": False,
    }


def mapping(values: Schema) -> Schema:
    """An object with any names."""
    return {"type": "object", "additionalProperties": values}


def _openai() -> dict[str, Schema]:
    token = {"token": STRING, "logprob": NUMBER, "bytes": array(INTEGER)}
    chat_token = record(**token, top_logprobs=array(record(**token)))
    usage = record(
        prompt_tokens=COUNT,
        completion_tokens=COUNT,
        total_tokens=COUNT,
        prompt_tokens_details=record(cached_tokens=COUNT),
        completion_tokens_details=record(reasoning_tokens=COUNT),
    )
    call = record(id=STRING, type=one_of("function"), function=record(name=STRING, arguments=STRING))
    message = record(
        {"reasoning_content": STRING, "tool_calls": array(call)},
        role=one_of("assistant"),
        content=nullable(STRING),
        refusal=NULL,
    )
    finish = one_of("stop", "length", "tool_calls")
    chat_choice = record(
        index=COUNT,
        message=message,
        logprobs=nullable(record(content=array(chat_token), refusal=NULL)),
        finish_reason=finish,
    )
    lists = record(
        tokens=array(STRING),
        token_logprobs=array(NUMBER),
        top_logprobs=array(mapping(NUMBER)),
        text_offset=array(COUNT),
    )
    choice = record(index=COUNT, text=STRING, logprobs=nullable(lists), finish_reason=finish)
    head = {"id": STRING, "created": INTEGER, "model": STRING, "system_fingerprint": nullable(STRING), "usage": usage}
    extras = {"nvext": mapping(ANY), "service_tier": NULL}
    vector = record(object=one_of("embedding"), index=COUNT, embedding={"anyOf": [array(NUMBER), STRING]})
    model = record({"context_window": COUNT}, id=STRING, object=one_of("model"), created=INTEGER, owned_by=STRING)
    return {
        "ChatCompletion": record(extras, **head, object=one_of("chat.completion"), choices=array(chat_choice)),
        "Completion": record(extras, **head, object=one_of("text_completion"), choices=array(choice)),
        "Embeddings": record(
            object=one_of("list"),
            data=array(vector),
            model=STRING,
            usage=record(prompt_tokens=COUNT, total_tokens=COUNT),
        ),
        "Model": model,
        "Models": record(object=one_of("list"), data=array(reference("answers.Model"))),
    }


def _responses() -> dict[str, Schema]:
    """The response object also repeats members of the request, so it is open."""
    item = record(type=STRING, id=STRING, status=one_of("completed", "incomplete")) | {"additionalProperties": True}
    usage = record(
        input_tokens=COUNT,
        input_tokens_details=record(cached_tokens=COUNT, cache_write_tokens=COUNT),
        output_tokens=COUNT,
        output_tokens_details=record(reasoning_tokens=COUNT),
        total_tokens=COUNT,
    )
    response = record(
        id=STRING,
        object=one_of("response"),
        created_at=INTEGER,
        completed_at=nullable(INTEGER),
        status=one_of("completed", "incomplete", "failed"),
        model=STRING,
        output=array(item),
        usage=nullable(usage),
        error=nullable(record(code=STRING, message=STRING)),
        incomplete_details=nullable(record(reason=STRING)),
    )
    return {"Response": response | {"additionalProperties": True}}


def _anthropic() -> dict[str, Schema]:
    text = record(type=one_of("text"), text=STRING)
    thinking = record(type=one_of("thinking"), thinking=STRING, signature=STRING)
    tool_use = record(type=one_of("tool_use"), id=STRING, name=STRING, input=mapping(ANY))
    usage = record(
        input_tokens=COUNT,
        cache_creation_input_tokens=COUNT,
        cache_read_input_tokens=COUNT,
        output_tokens=COUNT,
        output_tokens_details=record(thinking_tokens=COUNT),
    )
    message = record(
        id=STRING,
        type=one_of("message"),
        role=one_of("assistant"),
        model=STRING,
        content=array({"anyOf": [text, thinking, tool_use]}),
        stop_reason=one_of("end_turn", "max_tokens", "stop_sequence", "tool_use"),
        stop_sequence=nullable(STRING),
        usage=usage,
    )
    error = record(type=STRING, message=STRING)
    model = record({"max_input_tokens": COUNT}, id=STRING, display_name=STRING, type=one_of("model"), created_at=STRING)
    return {
        "Message": message,
        "TokenCount": record(input_tokens=COUNT),
        "AnthropicError": record(type=one_of("error"), error=error),
        "AnthropicModel": model,
        "AnthropicModels": record(
            data=array(reference("answers.AnthropicModel")),
            has_more=BOOLEAN,
            first_id=nullable(STRING),
            last_id=nullable(STRING),
        ),
    }


def _control() -> dict[str, Schema]:
    member = {"type": ["string", "null"]}
    return {
        "Error": record(error=record(message=STRING, type=STRING, param=member, code=member)),
        "Live": record(status=one_of("live"), message=STRING),
        "Health": record(
            {"message": STRING},
            status=one_of("healthy", "starting", "draining"),
            endpoints=array(STRING),
            instances=array(reference("answers.InstanceView")),
        ),
        "ScrapeTargets": array(
            record(targets=array(STRING), labels={"type": "object", "additionalProperties": {"type": "string"}})
        ),
        "BusyThresholds": record(thresholds=array(reference("answers.BusyThreshold"))),
    }


def answer_schemas() -> dict[str, Schema]:
    """Every answer and what it is made of, by component name."""
    kinds: tuple[Any, ...] = (TokenizeAnswer, DetokenizeAnswer, InstanceView, BusyThreshold)
    _, typed = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/answers.{name}")
    written = _openai() | _responses() | _anthropic() | _control()
    return {f"answers.{name}": schema for name, schema in (typed | written).items()}
