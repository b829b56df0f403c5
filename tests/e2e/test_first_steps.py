"""What a newcomer does in the first five minutes."""

import json
from pathlib import Path

import pytest

from appliance.models.demo import demo_model_path
from appliance.models.facts import describe_model
from tests.e2e.appliance_process import Appliance, appliance, eventually, refusal

QUESTION = "What is a KV cache?"
ANSWER = "A KV cache keeps the keys and values of past tokens, so that they are not computed again."

GRAPH = """
apiVersion: nvidia.com/v1beta1
kind: DynamoGraphDeployment
metadata:
  name: pair
spec:
  components:
    - name: Frontend
      type: frontend
      replicas: 1
    - name: Mock
      type: worker
      replicas: 1
      podTemplate:
        spec:
          containers:
            - name: main
              args: ["worker", "--engine", "mocker", "--model", "pair-model", "--served-model-name", "pair-model"]
"""


def test_the_demo_model_answers_over_http(demo: Appliance) -> None:
    answer = demo.chat(demo.models[0], QUESTION)
    assert answer["choices"][0]["message"]["content"] == ANSWER
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert answer["usage"]["completion_tokens"] > 5


def test_chat_prompt_prints_the_answer(demo: Appliance) -> None:
    assert demo.cli("chat", "--prompt", QUESTION).strip() == ANSWER


def test_chat_without_a_running_appliance_starts_one(binary: str | None, tmp_path: Path) -> None:
    idle = Appliance(binary, tmp_path / "state")
    assert idle.cli("chat", "--prompt", QUESTION, timeout=60).strip() == ANSWER


def test_health_live_and_metrics(demo: Appliance) -> None:
    assert json.loads(demo.get("/health"))["status"] == "healthy"
    assert json.loads(demo.get("/live"))["status"] == "live"
    demo.chat(demo.models[0], "Hi")
    text = demo.get("/metrics").decode()
    assert 'dynamo_frontend_requests_total{endpoint="chat_completions"' in text
    assert "dynamo_frontend_time_to_first_token_seconds_bucket" in text


@pytest.mark.parametrize("path", ["/nothing", "/v1/nothing"])
def test_unknown_paths_have_a_json_error(demo: Appliance, path: str) -> None:
    code, body = refusal(lambda: demo.get(path))
    assert code == 404
    assert body["error"]["type"] == "not_found_error"


def test_status_shows_workers_and_no_request_left(demo: Appliance) -> None:
    status = demo.status()
    assert [w["phase"] for w in status["workers"]] == ["ready"]
    assert status["active_requests"] == 0


def test_a_graph_is_applied_scaled_and_deleted(binary: str | None, tmp_path: Path) -> None:
    file = tmp_path / "graph.yaml"
    file.write_text(GRAPH)
    with appliance(binary, tmp_path / "state") as one:
        one.cli("apply", "-f", str(file))
        eventually(lambda: "True" in one.cli("get", "dgd", "pair"))
        assert one.chat("pair-model", "anything", max_tokens=5)["usage"]["completion_tokens"] == 5
        one.cli("scale", "Mock", "--replicas", "2")
        eventually(lambda: sum(w["phase"] == "ready" for w in one.status()["workers"]) == 3)
        stored = json.loads(one.cli("get", "dgd", "pair", "-o", "json"))
        assert stored["status"]["components"]["Mock"]["readyReplicas"] == 2
        assert "Mock" in one.cli("describe", "dgd", "pair")
        one.cli("delete", "dgd", "pair")
        eventually(lambda: len(one.status()["workers"]) == 1)
        code, body = refusal(lambda: one.chat("pair-model", "anything"))
        assert code == 404
        assert one.models[0] in body["error"]["message"]


def test_a_start_with_a_stored_graph_brings_back_what_was_wanted(binary: str | None, tmp_path: Path) -> None:
    with appliance(binary, tmp_path / "state", "--engine", "mocker", "kept") as one:
        assert one.models == ["kept"]
        one.cli("scale", "worker", "--replicas", "2")
        eventually(lambda: sum(w["phase"] == "ready" for w in one.status()["workers"]) == 2)
    with appliance(binary, tmp_path / "state") as again:
        assert again.models == ["kept"]
        assert len(again.status()["workers"]) == 2


def test_a_tokenizer_that_only_the_engine_knows_is_asked_over_the_link(binary: str | None, tmp_path: Path) -> None:
    """The demo model with a way of cutting words that the engine knows and we do not rebuild."""
    file = tmp_path / "renamed.gguf"
    head, key, rest = demo_model_path().read_bytes().partition(b"tokenizer.ggml.pre")
    file.write_bytes(head + key + rest.replace(b"gpt-2", b"bloom", 1))
    assert "tokenizer.json" not in describe_model(file).files
    with appliance(binary, tmp_path / "state", str(file)) as one:
        assert one.chat("renamed", QUESTION)["choices"][0]["message"]["content"] == ANSWER
