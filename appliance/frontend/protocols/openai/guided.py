"""The constraint on an answer's text that a body asks for, by `guided_*` members or by `response_format`."""

import msgspec

from appliance.core.errors import InvalidRequest
from appliance.core.requests import Guided
from appliance.frontend.protocols.openai.chat_schema import ResponseFormat
from appliance.frontend.protocols.openai.extensions import GenerationFields
from appliance.frontend.protocols.openai.nvext import Nvext

ANY_OBJECT = Guided(json_schema='{"type":"object"}')


def read_guided(body: GenerationFields, wanted: ResponseFormat | None = None) -> Guided | None:
    """The one constraint of a body, by its own members or by a format, or None.

    Raises `InvalidRequest` when there are several or a bad one.
    """
    if body.nvext is None and wanted is None and not _is_guided(body):
        return None
    asked = read_constraints(body)
    if body.nvext is not None:
        asked |= read_constraints(body.nvext, "nvext.")
    if wanted is not None and wanted.type != "text":
        asked["response_format"] = _from_format(wanted)
    return one_constraint(asked)


def one_constraint(asked: dict[str, Guided]) -> Guided | None:
    """The constraint among those asked for by member name, if any. Raises `InvalidRequest` for more than one."""
    if len(asked) > 1:
        names = list(asked)
        raise InvalidRequest(f"only one constraint on the output is possible, not {', '.join(names)}", param=names[1])
    return next(iter(asked.values()), None)


def read_constraints(members: GenerationFields | Nvext, place: str = "") -> dict[str, Guided]:
    """The `guided_*` members that are given, by their names behind `place`. Raises `InvalidRequest`."""
    asked: dict[str, Guided] = {}
    if _given(members.guided_json):
        name = f"{place}guided_json"
        asked[name] = Guided(json_schema=schema_text(members.guided_json, name))
    if members.guided_regex:
        asked[f"{place}guided_regex"] = Guided(regex=members.guided_regex)
    if members.guided_grammar:
        asked[f"{place}guided_grammar"] = Guided(grammar=members.guided_grammar)
    if members.guided_choice is not None:
        name = f"{place}guided_choice"
        asked[name] = Guided(choice=_choices(members.guided_choice, name))
    return asked


def _is_guided(body: GenerationFields) -> bool:
    by_text = body.guided_json or body.guided_regex or body.guided_grammar
    return bool(by_text) or body.guided_choice is not None


def _from_format(wanted: ResponseFormat) -> Guided:
    if wanted.type == "json_object":
        return ANY_OBJECT
    if wanted.json_schema is None:
        raise InvalidRequest("response_format.json_schema is required", param="response_format.json_schema")
    if not _given(wanted.json_schema.schema):
        return ANY_OBJECT
    return Guided(json_schema=schema_text(wanted.json_schema.schema, "response_format.json_schema.schema"))


def _given(raw: msgspec.Raw) -> bool:
    return bool(raw) and bytes(raw) != b"null"


def schema_text(raw: msgspec.Raw, param: str) -> str:
    """A schema as JSON text: given as an object, or as a string that holds one."""
    try:
        schema = msgspec.json.decode(raw)
        text = schema if isinstance(schema, str) else bytes(raw).decode()
        msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(f"{param} must be a JSON schema object", param=param) from error
    return text


def _choices(choices: list[str], param: str) -> tuple[str, ...]:
    if not choices or not all(choices):
        raise InvalidRequest(f"{param} must be a list of non-empty strings", param=param)
    return tuple(choices)
