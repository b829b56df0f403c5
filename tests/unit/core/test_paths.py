"""Where state and sockets lie, by flag and environment."""

from pathlib import Path

import pytest

from appliance.core.paths import LONGEST_SOCKET_NAME, SOCKET_PATH_LIMIT, config_file_default, resolve_paths

HOME = {"HOME": "/home/u"}


@pytest.mark.parametrize(
    ("flag", "environ", "state"),
    [
        ("/flag", {"STATE_DIRECTORY": "/systemd"}, "/flag"),
        (None, {"STATE_DIRECTORY": "/systemd:/second", "XDG_STATE_HOME": "/xdg"}, "/systemd"),
        (None, {"XDG_STATE_HOME": "/xdg"}, "/xdg/dynamo-appliance"),
        (None, {}, "/home/u/.local/state/dynamo-appliance"),
    ],
)
def test_the_state_dir_follows_flag_service_and_user(flag: str | None, environ: dict[str, str], state: str) -> None:
    assert resolve_paths(flag, HOME | environ).state_dir == Path(state)


@pytest.mark.parametrize(
    ("environ", "parent"),
    [
        ({"RUNTIME_DIRECTORY": "/run/a", "XDG_RUNTIME_DIR": "/run/user/1"}, "/run"),
        ({"XDG_RUNTIME_DIR": "/run/user/1"}, "/run/user/1"),
        ({}, "/s"),
    ],
)
def test_the_run_dir_follows_service_and_session(environ: dict[str, str], parent: str) -> None:
    assert resolve_paths("/s", HOME | environ).run_dir.parent == Path(parent)


def test_two_state_dirs_never_share_a_run_dir() -> None:
    environ = HOME | {"XDG_RUNTIME_DIR": "/run/user/1"}
    assert resolve_paths("/a", environ).run_dir != resolve_paths("/b", environ).run_dir


@pytest.mark.parametrize("temp", ["/var/tmp", "/" + "t" * 90])
def test_sockets_of_a_deep_state_dir_fit_into_a_kernel_address(temp: str) -> None:
    paths = resolve_paths("/" + "d" * 90, HOME | {"TMPDIR": temp})
    assert len(str(paths.run_dir)) + LONGEST_SOCKET_NAME <= SOCKET_PATH_LIMIT
    assert len(str(paths.link_socket("w" * 200))) <= SOCKET_PATH_LIMIT


def test_the_settings_file_lies_in_the_config_folder() -> None:
    assert config_file_default(HOME) == Path("/home/u/.config/dynamo-appliance/appliance.toml")
    assert config_file_default({"XDG_CONFIG_HOME": "/c"}) == Path("/c/dynamo-appliance/appliance.toml")
