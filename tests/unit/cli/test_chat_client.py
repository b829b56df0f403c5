"""A chat with a prepared server: what is sent, what comes back, what happens to the conversation."""

import json
from pathlib import Path

import pytest

from appliance.cli.admin_client import AdminClient
from appliance.cli.chat_client import ChatClient, open_chat
from appliance.core.errors import ApplianceError, ModelNotFound, NotRunning
from tests.helpers.canned_server import Canned, serve_canned

ASK = "POST /v1/chat/completions"


def stream(*texts: str, error: str | None = None) -> tuple[int, bytes]:
    events = [{"choices": [{"delta": {"content": text}}]} for text in texts]
    lines = [f"data: {json.dumps(event)}\n\n" for event in events]
    if error:
        lines.append(f"data: {json.dumps({'error': {'message': error}})}\n\n")
    return 200, "".join([": comment\n\n", *lines, "data: [DONE]\n\n"]).encode()


def client(url: str, *, system: str | None = None) -> ChatClient:
    return ChatClient(url + "/v1", "m", key=None, cafile=None, system=system)


def test_the_conversation_grows_with_each_answer() -> None:
    canned = Canned(answers={ASK: stream("Hel", "lo")})
    with serve_canned(canned) as url:
        chat = client(url, system="be brief")
        chat.set_options({"max_tokens": 5, "temperature": None})
        assert list(chat.ask("hi")) == ["Hel", "lo"]
        list(chat.ask("again"))
    body = canned.requests[1][1]
    assert [message["content"] for message in body["messages"]] == ["be brief", "hi", "Hello", "again"]
    assert (body["model"], body["stream"], body["max_tokens"]) == ("m", True, 5)
    assert "temperature" not in body


def test_forgetting_keeps_the_system_message() -> None:
    canned = Canned(answers={ASK: stream("a")})
    with serve_canned(canned) as url:
        chat = client(url, system="s")
        list(chat.ask("one"))
        chat.forget()
        list(chat.ask("two"))
    assert [message["content"] for message in canned.requests[1][1]["messages"]] == ["s", "two"]


def test_a_question_that_was_refused_is_not_kept() -> None:
    canned = Canned(answers={ASK: (400, {"error": {"message": "too long"}})})
    with serve_canned(canned) as url:
        chat = client(url)
        with pytest.raises(ApplianceError, match=r"^too long$"):
            list(chat.ask("x"))
        canned.answers[ASK] = stream("ok")
        list(chat.ask("y"))
    assert [message["content"] for message in canned.requests[1][1]["messages"]] == ["y"]


def test_an_answer_that_was_broken_off_is_kept_as_far_as_it_came() -> None:
    canned = Canned(answers={ASK: stream("par", "tial")})
    with serve_canned(canned) as url:
        chat = client(url)
        pieces = chat.ask("x")
        assert next(pieces) == "par"
        pieces.close()
        list(chat.ask("y"))
    assert [message["content"] for message in canned.requests[1][1]["messages"]] == ["x", "par", "y"]


def test_an_error_inside_the_stream_is_raised() -> None:
    with (
        serve_canned(Canned(answers={ASK: stream("a", error="the worker was lost")})) as url,
        pytest.raises(ApplianceError, match="the worker was lost"),
    ):
        list(client(url).ask("x"))


def test_a_server_that_is_gone_is_not_running() -> None:
    with serve_canned(Canned()) as url:
        chat = client(url)
    with pytest.raises(NotRunning, match="broke"):
        list(chat.ask("x"))


def admin_answers(url: str, *, keys: bool) -> dict[str, tuple[int, object]]:
    models = [{"name": "cold", "phase": "cold"}, {"name": "warm", "phase": "ready"}]
    return {
        "GET /status": (200, {"url": url + "/v1", "models": models}),
        "GET /config": (
            200,
            {"http": {"api_key_file": None, "tls_cert_path": None}, "paths": {"chat": "/v1/chat/completions"}},
        ),
        "GET /keys": (200, {"items": [{"name": "laptop"}] if keys else []}),
        "POST /keys": (201, {"name": "chat", "key": "dyn-secret"}),
    }


def test_a_chat_takes_a_ready_model_and_needs_no_key_where_there_are_none(tmp_path: Path) -> None:
    canned = Canned(answers={ASK: stream("a")})
    with serve_canned(canned) as url, serve_canned(Canned(admin_answers(url, keys=False)), tmp_path / "a"):
        with open_chat(AdminClient(tmp_path / "a"), None, system=None, options={}) as chat:
            list(chat.ask("x"))
        assert chat.model == "warm"
    assert "Authorization" not in canned.headers[0]


def test_a_chat_makes_a_key_for_itself_and_revokes_it(tmp_path: Path) -> None:
    canned, admin = Canned(answers={ASK: stream("a")}), Canned()
    with serve_canned(canned) as url, serve_canned(admin, tmp_path / "a"):
        admin.answers = admin_answers(url, keys=True)
        with (
            pytest.raises(ApplianceError, match="DELETE /keys/chat-"),  # the prepared server knows no such name
            open_chat(AdminClient(tmp_path / "a"), "cold", system=None, options={}) as chat,
        ):
            list(chat.ask("x"))
    assert canned.headers[0]["Authorization"] == "Bearer dyn-secret"
    made = next(body["name"] for name, body in admin.requests if name == "POST /keys")
    assert admin.requests[-1][0] == f"DELETE /keys/{made}"


def test_an_unknown_model_names_the_known_ones(tmp_path: Path) -> None:
    with (
        serve_canned(Canned(admin_answers("http://127.0.0.1:1", keys=False)), tmp_path / "a"),
        pytest.raises(ModelNotFound, match="no model 'hot'; it serves warm, cold"),
        open_chat(AdminClient(tmp_path / "a"), "hot", system=None, options={}),
    ):
        pass
