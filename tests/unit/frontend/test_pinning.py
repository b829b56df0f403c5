"""Pins in headers and in `nvext`: who wins, and what is no number."""

import json

import pytest

from appliance.core.errors import InvalidRequest
from appliance.core.generation import NO_PINS, Pins
from appliance.core.identity import RequestId
from appliance.frontend.pinning import read_pins
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
