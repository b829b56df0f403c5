"""Where a user says that workers are."""

from pathlib import Path

import pytest

from appliance.cli.worker import check_link_socket
from appliance.core.errors import UsageError
from appliance.discovery.socket_places import SocketPlaces, parse_places, worker_of


def test_a_folder_or_a_list_of_sockets() -> None:
    assert parse_places("/run/w") == SocketPlaces(folder=Path("/run/w"))
    assert parse_places("/a/x.sock,/b/y.sock") == SocketPlaces(sockets=(Path("/a/x.sock"), Path("/b/y.sock")))
    assert parse_places("w") == SocketPlaces(folder=Path.cwd() / "w")
    assert worker_of(Path("/a/serve-0.x.sock")) == "serve-0.x"


@pytest.mark.parametrize(
    ("text", "said"),
    [("", "one folder"), ("/a,/b", "one folder"), ("/a,/b/x.sock", "one folder"), ("/a/x.sock,/b/x.sock", "named x")],
)
def test_what_is_neither_is_refused(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        parse_places(text)


def test_the_socket_of_a_worker_can_be_found_by_others(tmp_path: Path) -> None:
    assert check_link_socket(str(tmp_path / "a.sock")) == tmp_path / "a.sock"
    with pytest.raises(UsageError, match=r"must end in \.sock"):
        check_link_socket(str(tmp_path / "a"))
    with pytest.raises(UsageError, match="there is no folder"):
        check_link_socket(str(tmp_path / "none" / "a.sock"))
