"""What is known of workers and models by their sockets, cards and links."""

from pathlib import Path
from typing import Any

import pytest

from appliance.core.identity import ModelName, WorkerId
from appliance.core.requests import ModelCard
from appliance.discovery.roster import LEFT, NOBODY, Roster, SocketFile

KEEP_S = 10.0
A, B = WorkerId("a"), WorkerId("b")


def card(model: str = "m", **facts: Any) -> ModelCard:
    return ModelCard(name=ModelName(model), context_length=64, engine="mocker", **facts)


def file(name: str, inode: int = 1, made_s: int = 100) -> SocketFile:
    return SocketFile(Path(f"/w/{name}.sock"), inode, made_s * 1_000_000_000)


def roster(**cards: ModelCard) -> Roster:
    """One with a ready worker for each card, seen at 0."""
    one = Roster(keep_s=KEEP_S)
    one.look({WorkerId(name): file(name) for name in cards}, 0.0)
    for name, its in cards.items():
        one.learn(WorkerId(name), file(name), its, 0.0)
    return one


def phases(one: Roster) -> dict[str, str]:
    return {worker.id: worker.phase for worker in one.workers()}


def model_phases(one: Roster) -> dict[str, tuple[str, str]]:
    return {model.name: (model.phase, model.reason) for model in one.models()}


def test_a_socket_is_a_worker_once_its_card_was_read() -> None:
    one = Roster(keep_s=KEEP_S)
    one.look({A: file("a")}, 0.0)
    assert (one.workers(), one.models()) == ([], [])
    assert one.unread() == [(A, file("a"))]
    one.learn(A, file("a"), card(), 0.0)
    (worker,), (model,) = one.workers(), one.models()
    assert (worker.id, worker.model, worker.phase, worker.address) == ("a", "m", "ready", "/w/a.sock")
    assert (model.name, model.phase, model.created, model.context_length) == ("m", "ready", 100, 64)
    assert one.unread() == []


def test_a_lost_link_makes_a_worker_count_for_nothing_until_its_card_was_read_again() -> None:
    one = roster(a=card())
    one.lose(A)
    assert phases(one) == {"a": "backoff"}
    assert model_phases(one) == {"m": ("cold", NOBODY)}
    assert one.unread() == [(A, file("a"))]
    assert one.fail(A, file("a"), "refused")
    assert not one.fail(A, file("a"), "refused"), "the same once more is no news"
    assert one.faults() == {"a": "refused"}
    one.learn(A, file("a"), card(), 1.0)
    assert (phases(one), one.faults()) == ({"a": "ready"}, {})


def test_a_new_socket_at_the_path_is_a_new_worker() -> None:
    one = roster(a=card())
    one.look({A: file("a", made_s=200)}, 1.0)
    assert one.workers() == []
    one.learn(A, file("a"), card("late"), 1.0)
    assert one.workers() == [], "an answer about the old socket says nothing about the new one"
    one.learn(A, file("a", made_s=200), card(), 1.0)
    assert phases(one) == {"a": "ready"}
    assert one.models()[0].created == 100, "the model was there all the time"


def test_a_draining_worker_is_not_asked_again_and_serves_nothing_new() -> None:
    one = roster(a=card(), b=card())
    one.drain(A)
    assert phases(one) == {"a": "draining", "b": "ready"}
    assert one.unread() == []
    one.drain(B)
    assert model_phases(one)["m"][0] == "cold"
    one.lose(A)
    assert phases(one)["a"] == "backoff"


def test_a_model_is_kept_for_a_while_after_its_last_worker() -> None:
    one = roster(a=card(), b=card("other"))
    one.look({B: file("b")}, 5.0)
    one.look({B: file("b")}, KEEP_S)
    assert model_phases(one) == {"m": ("cold", LEFT), "other": ("ready", "")}
    one.look({B: file("b")}, KEEP_S + 0.1)
    assert model_phases(one) == {"other": ("ready", "")}
    one.look({A: file("a", made_s=300), B: file("b")}, 20.0)
    one.learn(A, file("a", made_s=300), card(), 20.0)
    assert {model.name: model.created for model in one.models()} == {"other": 100, "m": 300}


@pytest.mark.parametrize(
    ("roles", "enforce", "ready"),
    [
        (("prefill",), False, False),
        (("decode",), False, True),
        (("decode",), True, False),
        (("prefill", "decode"), True, True),
    ],
)
def test_a_model_is_ready_when_its_workers_can_answer_between_them(
    roles: tuple[Any, ...], enforce: bool, ready: bool
) -> None:
    one = Roster(keep_s=KEEP_S, enforce_disagg=enforce)
    one.look({WorkerId(role): file(role) for role in roles}, 0.0)
    for role in roles:
        one.learn(WorkerId(role), file(role), card(role=role), 0.0)
    assert model_phases(one)["m"][0] == ("ready" if ready else "cold")


def test_what_is_told_of_unknown_workers_changes_nothing() -> None:
    one = roster(a=card())
    one.lose(B)
    one.drain(B)
    one.learn(B, file("b"), card("x"), 0.0)
    assert not one.fail(B, file("b"), "gone")
    assert phases(one) == {"a": "ready"}
