"""The admin client against real unix sockets: answers, refusals, and nobody there."""

import socket
import threading
from pathlib import Path

import pytest

from appliance.cli.admin_client import AdminClient
from appliance.core.errors import ApplianceError, Conflict, NotFound, NotRunning, Unprocessable
from appliance.core.paths import resolve_paths
from tests.helpers.canned_server import Canned, serve_canned


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "admin.sock"


def test_names_are_quoted_and_empty_queries_left_out(place: Path) -> None:
    canned = Canned(answers={"GET /objects/dgd/a%2Fb%20c?limit=5": (200, {"name": "a/b c"})})
    with serve_canned(canned, place):
        assert AdminClient(place).get("objects", "dgd", "a/b c", limit=5, subject=None) == {"name": "a/b c"}


def test_bodies_are_json_both_ways(place: Path) -> None:
    canned = Canned(answers={"POST /scale": (200, {"done": True}), "DELETE /keys/x": (200, b"")})
    with serve_canned(canned, place):
        client = AdminClient(place)
        assert client.post("scale", body={"replicas": 2}) == {"done": True}
        assert client.delete("keys", "x") is None
    assert canned.requests[0] == ("POST /scale", {"replicas": 2})


@pytest.mark.parametrize(
    ("status", "error"),
    [(404, NotFound), (409, Conflict), (422, Unprocessable), (400, ApplianceError), (500, ApplianceError)],
)
def test_a_refusal_is_raised_with_its_message(place: Path, status: int, error: type[ApplianceError]) -> None:
    with serve_canned(Canned(answers={"GET /x": (status, {"error": {"message": "because"}})}), place):
        with pytest.raises(ApplianceError, match=r"^because$") as caught:
            AdminClient(place).get("x")
        assert type(caught.value) is error


def test_a_refusal_without_our_body_names_its_status(place: Path) -> None:
    with (
        serve_canned(Canned(answers={"GET /x": (503, b"<html>")}), place),
        pytest.raises(ApplianceError, match="HTTP status 503"),
    ):
        AdminClient(place).get("x")


def test_lines_are_streamed_as_texts(place: Path) -> None:
    canned = Canned(answers={"GET /logs/worker?lines=2&follow=0": (200, b"one\ntwo \xff\n")})
    with serve_canned(canned, place):
        assert list(AdminClient(place).lines("logs", "worker", lines=2, follow=0)) == ["one", "two \ufffd"]


def test_lines_of_an_unknown_component_are_a_refusal(place: Path) -> None:
    with serve_canned(Canned(), place), pytest.raises(NotFound, match="no answer"):
        list(AdminClient(place).lines("logs", "nobody"))


def test_without_a_socket_nothing_runs(place: Path) -> None:
    with pytest.raises(NotRunning, match="dynamo-appliance serve") as caught:
        AdminClient(place).get("status")
    assert caught.value.exit_code == 3


def test_a_socket_that_nobody_listens_on_means_the_same(place: Path) -> None:
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(place))
    dead.close()
    with pytest.raises(NotRunning, match="dynamo-appliance serve"):
        AdminClient(place).get("status")


def test_an_appliance_that_hangs_up_is_gone(place: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place))
        listener.listen()
        thread = threading.Thread(target=lambda: listener.accept()[0].close())
        thread.start()
        with pytest.raises(NotRunning, match="went away"):
            AdminClient(place).get("status")
        thread.join()


def test_the_socket_is_found_where_another_environment_put_it(tmp_path: Path) -> None:
    state = tmp_path / "s"
    plain = resolve_paths(str(state), {})
    plain.run_dir.mkdir(parents=True)
    plain.admin_socket.touch()
    environ = {"XDG_RUNTIME_DIR": str(tmp_path / "x"), "HOME": str(tmp_path)}
    assert AdminClient.find(resolve_paths(str(state), environ), environ).socket_path == plain.admin_socket
