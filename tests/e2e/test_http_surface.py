"""What clients may send beside plain bodies, and where routes can be moved: through a whole appliance."""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from functools import partial
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from appliance.core.identity import WorkerId, instance_number
from tests.e2e.appliance_process import Appliance, appliance, eventually, refusal
from tests.helpers.packing import PACKERS, pack

MOCKER = ("--engine", "mocker", "--engine-arg", "step_ms=0", "--context-length", "256")
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAY = [{"role": "user", "content": "hello there"}]


@pytest.fixture(scope="module")
def pair(binary: str | None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Appliance]:
    """Two workers behind a front end that writes its access log."""
    with appliance(binary, tmp_path_factory.mktemp("surface") / "s", *MOCKER, "--replicas", "2", "m") as one:
        yield one


def ask(one: Appliance, path: str, body: Any, **headers: str) -> tuple[Any, Any]:
    """Answer and its headers; a body of bytes goes as it is."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(one.url + path, data, {name.replace("_", "-"): v for name, v in headers.items()})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer), answer.headers


def refused(one: Appliance, path: str, body: Any, **headers: str) -> tuple[int, dict[str, Any]]:
    status, answer = refusal(partial(ask, one, path, body, **headers))
    return status, answer["error"]


@pytest.mark.parametrize("coding", PACKERS)
def test_packed_bodies_on_hot_and_on_proxied_routes(pair: Appliance, coding: str) -> None:
    body = pack(json.dumps({"model": "m", "messages": SAY, "max_tokens": 2}).encode(), coding)
    answer, _ = ask(pair, "/v1/chat/completions", body, content_encoding=coding)
    assert answer["usage"]["completion_tokens"] == 2
    status, error = refused(pair, "/busy_threshold", pack(b'{"model": "x"}', coding), content_encoding=coding)
    assert (status, error["code"]) == (404, "model_not_found")


def test_text_to_tokens_and_back(pair: Appliance) -> None:
    text = "hello wörld 😀"
    answer, _ = ask(pair, "/v1/tokenize", {"model": "m", "prompt": text, "return_token_strs": True})
    assert answer["count"] == len(answer["tokens"]) == len(answer["token_strs"])
    assert answer["max_model_len"] == 256
    assert ask(pair, "/v1/detokenize", {"model": "m", "tokens": answer["tokens"]})[0] == {"prompt": text}
    assert ask(pair, "/v1/tokenize", {"model": "m", "prompt": ""})[0]["tokens"] == []
    long, _ = ask(pair, "/v1/tokenize", {"model": "m", "prompt": "a b " * 20_000})
    assert long["count"] > 10_000
    assert ask(pair, "/v1/detokenize", {"model": "m", "tokens": long["tokens"]})[0]["prompt"] == "a b " * 20_000


def test_tokens_of_a_conversation_are_those_of_the_request(pair: Appliance) -> None:
    answer, _ = ask(pair, "/v1/tokenize", {"model": "m", "messages": SAY})
    assert answer["count"] == pair.chat("m", SAY[0]["content"], max_tokens=1)["usage"]["prompt_tokens"]
    without, _ = ask(pair, "/v1/tokenize", {"model": "m", "messages": SAY, "add_generation_prompt": False})
    assert without["count"] < answer["count"]


@pytest.mark.parametrize(
    ("path", "body", "status", "param"),
    [
        ("/v1/tokenize", {"model": "m"}, 400, "prompt"),
        ("/v1/tokenize", {"model": "m", "prompt": "x", "messages": SAY}, 400, "prompt"),
        ("/v1/tokenize", {"model": "m", "messages": []}, 400, "messages"),
        ("/v1/tokenize", {"model": "m", "prompt": "x", "tools": []}, 400, "tools"),
        ("/v1/tokenize", {"model": "m", "prompt": "x", "other": 1}, 400, "other"),
        ("/v1/tokenize", {"model": "other", "prompt": "x"}, 404, "model"),
        ("/v1/detokenize", {"model": "m", "tokens": [1, -1]}, 400, "tokens[1]"),
        ("/v1/detokenize", {"model": "m", "tokens": [1, 10**8]}, 400, "tokens"),
        ("/v1/detokenize", {"model": "other", "tokens": []}, 404, "model"),
    ],
)
def test_wrong_questions_about_tokens(pair: Appliance, path: str, body: Any, status: int, param: str) -> None:
    found, error = refused(pair, path, body)
    assert (found, error["param"]) == (status, param)


def test_request_ids_come_back_from_every_kind_of_route(pair: Appliance) -> None:
    for path in ("/v1/models", "/health", "/metrics", "/no/such/path"):
        request = urllib.request.Request(pair.url + path, headers={"x-request-id": "id 7"})
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                headers = answer.headers
        except urllib.error.HTTPError as error:
            with error:
                headers = error.headers
        assert headers["x-request-id"] == "id 7"


def _takes_pin(one: Appliance, number: int) -> bool:
    try:
        ask(
            one,
            "/v1/chat/completions",
            {"model": "m", "messages": SAY, "max_tokens": 1},
            x_worker_instance_id=str(number),
        )
    except urllib.error.HTTPError as error:
        error.close()
        return False
    return True


def test_a_pinned_worker_gets_the_request(pair: Appliance) -> None:
    """While one worker stands still, twenty requests for the other one are answered: none went astray."""
    body = {"model": "m", "messages": SAY, "max_tokens": 1}
    listed = json.loads(pair.get("/health"))["instances"]
    eventually(lambda: all(_takes_pin(pair, one["instance_id"]) for one in listed))  # it connects to each by itself
    for still, working in permutations(pair.workers(), 2):
        number = str(instance_number(WorkerId(working.environ()["APPLIANCE_WORKER_ID"])))
        still.suspend()
        try:
            for _ in range(10):
                ask(pair, "/v1/chat/completions", body, x_worker_instance_id=number, x_dp_rank="0")
                ask(pair, "/v1/chat/completions", {**body, "nvext": {"backend_instance_id": int(number)}})
        finally:
            still.resume()


@pytest.mark.parametrize("header", ["x-worker-instance-id", "x-prefill-instance-id"])
@pytest.mark.parametrize("value", ["7", "x"])
def test_a_pin_on_nobody_is_a_400(pair: Appliance, header: str, value: str) -> None:
    body = {"model": "m", "messages": SAY, "max_tokens": 1}
    status, error = refused(pair, "/v1/chat/completions", body, **{header: value})
    assert status == 400
    assert "instance" in error["message"]


def test_completions_of_token_ids_and_batches(pair: Appliance) -> None:
    def complete(**members: Any) -> Any:
        return ask(pair, "/v1/completions", {"model": "m", "max_tokens": 2, **members})[0]

    ids = ask(pair, "/v1/tokenize", {"model": "m", "prompt": "hello there"})[0]["tokens"]
    assert complete(prompt=ids)["usage"]["prompt_tokens"] == len(ids)
    for batch in (["a", "b", "c"], [ids, ids, [5]]):
        answer = complete(prompt=batch, n=2)
        assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2, 3, 4, 5]
        assert answer["usage"]["completion_tokens"] == 12
    echoed = complete(prompt=["one ", "two "], echo=True)
    assert [choice["text"][:4] for choice in echoed["choices"]] == ["one ", "two "]
    for members, param in (({"suffix": "x"}, "suffix"), ({"prompt": [1, "a"]}, "prompt"), ({"prompt": []}, "prompt")):
        status, error = refused(pair, "/v1/completions", {"model": "m", "prompt": "x", **members})
        assert (status, error["param"]) == (400, param)
    assert refused(pair, "/v1/completions", {"model": "m", "prompt": [10**8]})[0] == 400


def test_moved_paths_and_a_request_template(binary: str | None, tmp_path: Path) -> None:
    template = tmp_path / "template.json"
    template.write_text('{"model": "m", "temperature": 0.0, "max_completion_tokens": 3}')
    one = Appliance(
        binary,
        tmp_path / "state",
        {
            "DYN_HTTP_SVC_CHAT_PATH": "/moved/chat",
            "DYN_HTTP_SVC_MODELS_PATH": "/moved/models",
            "DYN_HTTP_SVC_ANTHROPIC_PATH": "/moved/messages",
            "DYN_HTTP_SVC_HEALTH_PATH": "/moved/health",
            "DYN_HTTP_SVC_METRICS_PATH": "/moved/metrics",
        },
    )
    one.start(*MOCKER, "--request-template", str(template), "m")
    try:
        answer, _ = ask(one, "/moved/chat", {"messages": SAY})
        assert (answer["model"], answer["usage"]["completion_tokens"]) == ("m", 3)
        assert one.cli("chat", "--prompt", "hi").strip()
        assert ask(one, "/v1/responses", {"input": "x"})[0]["usage"]["output_tokens"] == 3
        assert json.loads(one.get("/moved/models/m"))["id"] == "m"
        assert json.loads(one.get("/moved/health"))["status"] == "healthy"
        assert b"dynamo_frontend" in one.get("/moved/metrics")
        assert refused(one, "/moved/messages", {"model": "m"})[1].keys() == {"type", "message"}
        assert set(json.loads(one.get("/openapi.json"))["paths"]) >= {"/moved/chat", "/moved/messages/count_tokens"}
        for path in ("/v1/chat/completions", "/v1/models", "/v1/models/m", "/v1/messages", "/health", "/metrics"):
            assert refusal(partial(one.get, path))[0] == 404
    finally:
        one.stop()


def test_a_wrong_template_ends_the_start_with_one_line(binary: str | None, tmp_path: Path) -> None:
    template = tmp_path / "template.json"
    template.write_text('{"model": "m"}')
    one = Appliance(binary, tmp_path / "state")
    ended = one.run("serve", "--port", "0", *MOCKER, "--request-template", str(template), "m")
    assert ended.returncode == 2
    assert ended.stderr.strip().endswith("missing required field temperature")
    assert len(ended.stderr.strip().splitlines()) == 1


def test_traces_and_request_ids_are_in_the_access_log_and_nowhere_else(binary: str | None, tmp_path: Path) -> None:
    with appliance(binary, tmp_path / "state", *MOCKER, "--access-log", "m") as one:
        body = {"model": "m", "messages": SAY, "max_tokens": 1}
        headers = {"traceparent": f"00-{TRACE}-{SPAN}-01", "x-request-id": "id 7"}
        answer, shown = ask(one, "/v1/chat/completions", body, **headers)
        assert TRACE not in str(shown) + json.dumps(answer)
        refusal(partial(one.get, "/a%0Afake"))
        log = one.cli("logs", "frontend") + one.tail()
    assert f"x_request_id=id\\x207 trace_id={TRACE} span_id=" in log
    assert f"parent_id={SPAN}" in log
    assert "GET /a%0Afake 404" in log
