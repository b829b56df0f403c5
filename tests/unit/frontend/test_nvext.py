"""`nvext` in all three families of protocols."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from appliance.core.errors import InvalidRequest
from appliance.core.generation import GenerationRequest
from appliance.core.identity import RequestId
from appliance.frontend.protocols.anthropic.decode import decode_messages
from appliance.frontend.protocols.openai.decode import decode_chat
from appliance.frontend.protocols.responses.decode import decode_responses

MESSAGES = [{"role": "user", "content": "x"}]
FAMILIES: list[tuple[Callable[[bytes, RequestId], GenerationRequest], dict[str, Any]]] = [
    (decode_chat, {"model": "m", "messages": MESSAGES}),
    (decode_messages, {"model": "m", "messages": MESSAGES, "max_tokens": 5}),
    (decode_responses, {"model": "m", "input": "x"}),
]
each_family = pytest.mark.parametrize(("decode", "body"), FAMILIES, ids=["chat", "messages", "responses"])


def with_nvext(body: dict[str, Any], **nvext: Any) -> bytes:
    return json.dumps({**body, "nvext": nvext}).encode()


@each_family
def test_members_with_effect(decode: Any, body: dict[str, Any]) -> None:
    request = decode(
        with_nvext(
            body,
            greed_sampling=True,
            ignore_eos=True,
            token_data=[1, 2],
            agent_hints={"priority": 7, "latency_sensitivity": 0.5, "speculative_prefill": True},
            annotations=["request_id"],
            extra_fields=["timing"],
            backend_instance_id=9,
            guided_regex="a+",
        ),
        RequestId("r"),
    )
    assert request.sampling.temperature == 0
    assert request.ignore_eos
    assert request.token_ids == [1, 2]
    assert request.priority == 7
    assert request.annotations == ("request_id",)
    assert request.extra_fields == ("timing",)
    assert request.pins.worker == 9
    assert request.guided.regex == "a+"


@each_family
def test_unknown_and_effectless_members_are_accepted(decode: Any, body: dict[str, Any]) -> None:
    plain = decode(json.dumps(body).encode(), RequestId("r"))
    extra = decode(with_nvext(body, cache_control={"type": "ephemeral", "ttl": "5m"}, new_thing=[1]), RequestId("r"))
    assert extra == plain


@each_family
def test_wrong_types_are_named(decode: Any, body: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        decode(with_nvext(body, agent_hints={"priority": "high"}), RequestId("r"))
    assert caught.value.param == "nvext.agent_hints.priority"


@each_family
def test_two_constraints_are_refused(decode: Any, body: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest, match="only one constraint"):
        decode(with_nvext(body, guided_regex="a+", guided_choice=["a", "b"]), RequestId("r"))
