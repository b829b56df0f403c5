"""Pins in headers and in `nvext`: who wins, and what is no number."""

import json

import pytest

from appliance.core.errors import InvalidRequest
from appliance.core.generation import NO_HINTS, NO_PINS, Pins, RouterOverrides, RoutingHints
from appliance.core.identity import RequestId
from appliance.frontend.pinning import read_hints, read_pins
from appliance.frontend.protocols.openai.decode import decode_chat, decode_completion, decode_embedding
from appliance.frontend.protocols.responses.decode import decode_responses
from appliance.web.request import HttpRequest


def request(**headers: str) -> HttpRequest:
    given = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
    return HttpRequest("POST", "/", headers=given)


def test_headers_win_one_by_one() -> None:
    body = Pins(worker=1, prefill=2, dp_rank=3)
    assert read_pins(request(), body) is body
    assert read_pins(request(x_worker_instance_id="9"), body) == Pins(worker=9, prefill=2, dp_rank=3)
    both = request(x_prefill_instance_id=str(2**64 - 1), x_dp_rank="0")
    assert read_pins(both, NO_PINS) == Pins(prefill=2**64 - 1, dp_rank=0)


@pytest.mark.parametrize("value", ["", "-1", "1.5", "a", "1, 2", "²", str(2**64), "0" * 5000])
def test_what_is_no_number_is_named(value: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read_pins(request(x_worker_instance_id=value), NO_PINS)
    assert caught.value.param == "x-worker-instance-id"


@pytest.mark.parametrize(
    ("nvext", "pins"),
    [
        ({}, NO_PINS),
        ({"backend_instance_id": 1}, Pins(worker=1)),
        ({"backend_instance_id": 1, "decode_worker_id": 2}, Pins(worker=2)),
        ({"prefill_worker_id": 3, "dp_rank": 4}, Pins(prefill=3, dp_rank=4)),
    ],
)
def test_every_body_with_extras_can_pin(nvext: dict[str, int], pins: Pins) -> None:
    def body(**members: object) -> bytes:
        return json.dumps({"model": "m", "nvext": nvext, **members}).encode()

    id_ = RequestId("r")
    assert decode_chat(body(messages=[{"role": "user", "content": "x"}]), id_).pins == pins
    assert decode_completion(body(prompt="x"), id_).pins == pins
    assert decode_embedding(body(input="x"), id_).pins == pins
    assert decode_responses(body(input="x"), id_).pins == pins


def hints(**nvext: object) -> RoutingHints:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "nvext": nvext}
    return decode_chat(json.dumps(body).encode(), RequestId("r")).hints


def test_hints_of_the_body() -> None:
    assert hints() is NO_HINTS
    assert hints(agent_hints={"priority": 5, "osl": 40, "latency_sensitivity": 9.0}) == RoutingHints(
        priority_jump_s=5.0, expected_output_tokens=40
    )
    assert hints(agent_hints={"priority": -5}).priority_jump_s == 0  # never demoted
    assert hints(agent_hints={"latency_sensitivity": 1.5}).priority_jump_s == 1.5
    assert hints(router_config_override={"router_temperature": 0.5, "unknown": 1}).overrides == RouterOverrides(
        router_temperature=0.5
    )
    assert hints(annotations=["query_instance_id:"]).query_only
    assert hints(routing_constraints={"required_taints": ["a"], "preferred_taints": {"b": 2}}) == RoutingHints(
        required_taints=("a",), preferred_taints={"b": 2.0}
    )
    assert hints(allowed_worker_ids=[3]).allowed_workers == (3,)


def test_sessions_of_the_body() -> None:
    opened = hints(session_control={"session_id": "s", "action": "open"})
    assert (opened.session_id, opened.session_action, opened.session_ttl_s) == ("s", "open", 300)
    going_on = hints(session_control={"session_id": "s"})
    assert (going_on.session_action, going_on.session_ttl_s) == (None, 0)
    assert hints(session_control={"session_id": "s", "action": "close"}).session_action == "close"


@pytest.mark.parametrize(
    "nvext",
    [
        {"session_control": {"action": "open"}},
        {"session_control": {"session_id": ""}},
        {"session_control": {"session_id": "s", "action": "end"}},
        {"session_control": {"session_id": "s", "timeout": 0}},
        {"router_config_override": {"overlap_score_credit": 2}},
        {"router_config_override": {"router_temperature": -1}},
    ],
)
def test_hints_that_cannot_be_are_refused(nvext: dict[str, object]) -> None:
    with pytest.raises(InvalidRequest):
        hints(**nvext)


def test_a_session_in_the_header_counts_when_it_is_switched_on() -> None:
    asked = request(x_dynamo_session_id="s")
    assert read_hints(asked, NO_HINTS, 0.0) is NO_HINTS
    assert read_hints(request(), NO_HINTS, 60.0) is NO_HINTS
    assert read_hints(asked, NO_HINTS, 60.0) == RoutingHints(session_id="s", session_ttl_s=60.0)
    own = RoutingHints(session_id="own")
    assert read_hints(asked, own, 60.0) is own
    with pytest.raises(InvalidRequest, match="512"):
        read_hints(request(x_dynamo_session_id="s" * 513), NO_HINTS, 60.0)
