"""Answers of the public control app."""

import json
import re

import pytest
from quart.typing import TestClientProtocol as Client

from appliance.frontend.control.public_app import build_public_app
from appliance.frontend.control.views import Health, InstanceView
from tests.fakes.control import FakeView


@pytest.fixture
def view() -> FakeView:
    return FakeView()


@pytest.fixture
def client(view: FakeView) -> Client:
    return build_public_app(view).test_client()


async def test_health_is_200_only_when_healthy(view: FakeView, client: Client) -> None:
    instance = InstanceView(namespace="dynamo", component="worker", endpoint="generate", instance_id=7)
    view.report = Health(status="healthy", instances=[instance])
    answer = await client.get("/health")
    assert answer.status_code == 200
    body = await answer.get_json()
    assert body["status"] == "healthy"
    assert body["endpoints"] == ["dyn://dynamo.worker.generate"]
    assert body["instances"][0]["instance_id"] == 7
    for status in ("starting", "draining"):
        view.report = Health(status=status, message="not now")
        answer = await client.get("/health")
        assert answer.status_code == 503
        assert (await answer.get_json())["message"] == "not now"
        assert (await client.get("/live")).status_code == 200


async def test_metrics_have_the_prometheus_type(client: Client) -> None:
    answer = await client.get("/metrics")
    assert answer.content_type == "text/plain; version=0.0.4; charset=utf-8"
    assert (await answer.get_data(as_text=True)).startswith("dynamo_frontend")


async def test_busy_threshold(client: Client) -> None:
    answer = await client.post("/busy_threshold", json={"model": "m", "active_decode_blocks_threshold": 0.5})
    assert answer.status_code == 200
    assert (await answer.get_json())["active_decode_blocks_threshold"] == 0.5
    thresholds = (await (await client.get("/busy_threshold")).get_json())["thresholds"]
    assert [entry["model"] for entry in thresholds] == ["m"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b"", 400),
        (b"{}", 400),
        (b'{"model":"\xff"}', 400),
        (b"[" * 5000, 400),
        (b'{"model":3}', 400),
        (b'{"model":"m","active_decode_blocks_threshold":1.5}', 400),
        (b'{"model":"m","active_prefill_tokens_threshold":-1}', 400),
        (b'{"model":"m","active_prefill_tokens_threshold":99999999999999999999}', 400),
        (b'{"model":"other"}', 404),
    ],
)
async def test_wrong_thresholds(client: Client, body: bytes, status: int) -> None:
    answer = await client.post("/busy_threshold", data=body)
    assert answer.status_code == status
    assert (await answer.get_json())["error"]["message"]


async def test_unknown_paths_and_methods_have_json_bodies(client: Client) -> None:
    answer = await client.get("/nowhere")
    assert answer.status_code == 404
    assert (await answer.get_json())["error"]["type"] == "not_found_error"
    answer = await client.delete("/live")
    assert answer.status_code == 405
    assert "GET" in answer.headers["allow"]
    assert (await answer.get_json())["error"]["code"] == "method_not_allowed"
    answer = await client.get("/v1/messages/none")
    assert (await answer.get_json())["type"] == "error"


async def test_documents_are_self_contained(client: Client) -> None:
    document = json.loads(await (await client.get("/openapi.json")).get_data())
    assert document["openapi"] == "3.1.0"
    assert set(document["paths"]["/busy_threshold"]) == {"get", "post"}
    answer = await client.get("/docs")
    page = str(await answer.get_data(as_text=True))
    assert answer.content_type.startswith("text/html")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", page)
    assert "/v1/chat/completions" in page


async def test_metrics_of_engines_pass_unchanged_and_are_found(client: Client, view: FakeView) -> None:
    view.engines["w-1"] = b'vllm:x{engine="0"} 1.0\n'
    answer = await client.get("/metrics/workers/w-1")
    assert (await answer.get_data(), answer.content_type) == (
        view.engines["w-1"],
        "text/plain; version=0.0.4; charset=utf-8",
    )
    (target,) = await (await client.get("/metrics/workers")).get_json()
    assert target["labels"]["__metrics_path__"] == "/metrics/workers/w-1"
    assert (await client.get("/metrics/workers/none")).status_code == 404
