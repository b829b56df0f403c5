"""Settings from their sources: who wins, what is refused and how it is said."""

from pathlib import Path

import pytest

from appliance.core.config import (
    ChildEnvironment,
    load_settings,
    read_child_environment,
    read_hub_token,
    settings_environment,
    without_child_variables,
)
from appliance.core.errors import UsageError
from appliance.core.settings import HttpSettings, LogSettings, Settings


def write(folder: Path, text: str) -> Path:
    file = folder / "appliance.toml"
    file.write_text(text)
    return file


def test_without_any_source_everything_is_default() -> None:
    loaded = load_settings(config_file=None, environ={}, flags={})
    assert loaded.settings == Settings()
    assert set(loaded.sources.values()) == {"default"}
    assert loaded.warnings == []


def test_a_later_source_wins_key_by_key(tmp_path: Path) -> None:
    file = write(tmp_path, '[http]\nport = 1\nhost = "file"\nidle_s = 3\n')
    environ = {"DYN_HTTP_PORT": "2", "APPLIANCE_HTTP_PORT": "3", "DYN_HTTP_HOST": "environment"}
    loaded = load_settings(config_file=file, environ=environ, flags={"http.host": "flag", "router.mode": None})
    assert (loaded.settings.http.host, loaded.settings.http.port, loaded.settings.http.idle_s) == ("flag", 3, 3.0)
    assert loaded.sources["http.host"] == "flag"
    assert loaded.sources["http.port"] == "environment APPLIANCE_HTTP_PORT"
    assert loaded.sources["http.idle_s"] == f"file {file}"
    assert loaded.sources["router.mode"] == "default"


@pytest.mark.parametrize(
    ("name", "value", "key", "expected"),
    [
        ("DYN_HTTP_BODY_LIMIT_MB", "192", "http.body_limit_mb", 192.0),
        ("DYN_ENABLE_ANTHROPIC_API", "false", "http.enable_anthropic_api", False),
        ("DYN_MIGRATION_LIMIT", "0", "requests.migration_limit", 0),
        ("DYN_HTTP_GRACEFUL_SHUTDOWN_TIMEOUT_SECS", "5", "drain.request_s", 5.0),
        ("APPLIANCE_HTTP_CORS_ORIGINS", "https://a, https://b", "http.cors_origins", ("https://a", "https://b")),
        ("APPLIANCE_HTTP_TLS_CERT_PATH", "", "http.tls_cert_path", None),
    ],
)
def test_environment_texts_become_typed_values(name: str, value: str, key: str, expected: object) -> None:
    settings = load_settings(config_file=None, environ={name: value}, flags={}).settings
    group, field = key.split(".")
    assert getattr(getattr(settings, group), field) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[http]\nprot = 1\n", "unknown setting 'http.prot' (file {file}), did you mean 'http.port'?"),
        ("[htpp]\nport = 1\n", "unknown setting 'htpp' (file {file}), did you mean 'http'?"),
        ("port = 1\n", "unknown setting 'port' (file {file}), did you mean 'http.port'?"),
        (
            '[http]\nport = "80"\n',
            "cannot use '80' for http.port (file {file}): must be a whole number from 0 to 65535",
        ),
        (
            "[http]\nport = true\n",
            "cannot use True for http.port (file {file}): must be a whole number from 0 to 65535",
        ),
        ("[drain]\nterm_s = nan\n", "cannot use nan for drain.term_s (file {file}): must be a number of at least 0"),
        ("[http]\naccess_log = 1\n", "cannot use 1 for http.access_log (file {file}): must be true or false"),
        ('[http]\ncors_origins = "*"\n', "cannot use '*' for http.cors_origins (file {file}): must be a list of texts"),
        ('[http]\nhost = ""\n', "cannot use '' for http.host (file {file}): must not be empty"),
        ("[http\n", "cannot read the settings file {file}: Expected ']' at the end of a table declaration"),
    ],
)
def test_a_wrong_file_is_one_line_with_key_and_place(tmp_path: Path, text: str, message: str) -> None:
    file = write(tmp_path, text)
    with pytest.raises(UsageError) as caught:
        load_settings(config_file=file, environ={}, flags={})
    assert caught.value.message.startswith(message.format(file=file))


@pytest.mark.parametrize(
    ("flags", "environ", "message"),
    [
        ({"http.port": "65536"}, {}, "cannot use 65536 for http.port (flag): must be a whole number from 0 to 65535"),
        ({"http.prt": "1"}, {}, "unknown setting 'http.prt' (flag), did you mean 'http.port'?"),
        ({"drain.request_s": "-1"}, {}, "cannot use -1.0 for drain.request_s (flag): must be a number of at least 0"),
        (
            {},
            {"DYN_HTTP_PORT": "x"},
            "cannot use 'x' for http.port (environment DYN_HTTP_PORT): must be a whole number",
        ),
        (
            {},
            {"DYN_ROUTER_MODE": "best"},
            "cannot use 'best' for router.mode (environment DYN_ROUTER_MODE): must be one of",
        ),
        ({"http.tls_cert_path": "a.pem"}, {}, "http.tls_cert_path and http.tls_key_path must be set together"),
    ],
)
def test_a_wrong_flag_or_variable_is_one_line(flags: dict[str, object], environ: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_settings(config_file=None, environ=environ, flags=flags)
    assert caught.value.message.startswith(message)
    assert caught.value.exit_code == 2


def test_a_missing_file_is_said_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nothing\.toml: No such file"):
        load_settings(config_file=tmp_path / "nothing.toml", environ={}, flags={})


def test_only_unknown_variables_of_ours_are_warned_about() -> None:
    environ = {"APPLIANCE_HTP_PORT": "1", "DYN_UNHEARD_OF": "1", "APPLIANCE_STATE_DIR": "/s", "PATH": "/bin"}
    environ |= ChildEnvironment(worker_id="w", parent_pid=4, listen_fds=(5,)).variables()
    loaded = load_settings(config_file=None, environ=environ, flags={})
    assert loaded.warnings == ["ignoring the unknown environment variable APPLIANCE_HTP_PORT"]


def test_a_child_gets_equal_settings_whatever_else_it_inherits() -> None:
    http = HttpSettings(host="::1", port=0, cors_origins=("https://a", "https://b"), idle_s=0.5, access_log=True)
    settings = Settings(http=http, log=LogSettings(level="debug"))
    inherited = {"DYN_HTTP_PORT": "99", "APPLIANCE_HTTP_TLS_CERT_PATH": "old.pem", "APPLIANCE_ROUTER_MODE": "random"}
    environ = inherited | settings_environment(settings)
    assert load_settings(config_file=None, environ=environ, flags={}).settings == settings


def test_the_child_environment_comes_back_as_it_was() -> None:
    child = ChildEnvironment(
        bus_socket=Path("/run/bus.sock"),
        link_socket=Path("/run/w.sock"),
        worker_id="w-0",
        parent_pid=7,
        listen_fds=(3, 4),
    )
    assert read_child_environment(child.variables()) == child
    assert read_child_environment({}) == ChildEnvironment()
    assert without_child_variables({"PATH": "/bin", **child.variables()}) == {"PATH": "/bin"}


def test_a_broken_child_environment_is_an_error() -> None:
    with pytest.raises(UsageError, match="not numbers"):
        read_child_environment({"APPLIANCE_PARENT_PID": "me"})


def test_the_hub_is_named_as_its_own_tools_name_it() -> None:
    environ = {"HF_ENDPOINT": "https://mirror.example", "HF_HUB_OFFLINE": "1", "HF_TOKEN_PATH": ""}
    hub = load_settings(config_file=None, environ=environ, flags={}).settings.hub
    assert (hub.endpoint, hub.offline, hub.token_file) == ("https://mirror.example", True, None)
    assert not load_settings(config_file=None, environ={"HF_HUB_OFFLINE": ""}, flags={}).settings.hub.offline
    with pytest.raises(UsageError, match=r"hub.endpoint 'mirror' is no http\(s\) address"):
        load_settings(config_file=None, environ={"HF_ENDPOINT": "mirror"}, flags={})


def test_the_hub_token_is_found_where_the_hubs_tools_keep_it(tmp_path: Path) -> None:
    folder = tmp_path / ".cache" / "huggingface"
    folder.mkdir(parents=True)
    (folder / "token").write_text("hf_kept\n")
    other = write(tmp_path, "hf_other")
    environ = {"HOME": str(tmp_path)}
    assert read_hub_token(environ, None) == "hf_kept"
    assert read_hub_token({"HF_HOME": str(folder)}, None) == "hf_kept"
    assert read_hub_token(environ, str(other)) == "hf_other"
    assert read_hub_token({**environ, "HF_TOKEN": "hf_given"}, str(other)) == "hf_given"
    assert read_hub_token({"HOME": "/nowhere"}, None) is None
    with pytest.raises(UsageError, match="cannot read the token file /nowhere: No such file"):
        read_hub_token(environ, "/nowhere")
