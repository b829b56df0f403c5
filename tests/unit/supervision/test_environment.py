"""What a child's environment holds."""

from appliance.supervision.environment import child_environment

BASE = {
    "PATH": "/bin",
    "HOME": "/root",
    "PYTHONPATH": "/src",
    "PYTHONHOME": "/py",
    "_PYI_APPLICATION_HOME_DIR": "/tmp/_MEI1",
    "_MEIPASS2": "/tmp/_MEI1",
    "LD_LIBRARY_PATH": "/tmp/_MEI1",
    "LD_LIBRARY_PATH_ORIG": "/usr/local/cuda/lib64",
}


def test_own_child_of_a_one_file_build_shares_the_unpacked_folder() -> None:
    env = child_environment(BASE, {"EXTRA": "1"}, frozen=True, foreign=False)
    assert env == {**BASE, "EXTRA": "1"}


def test_own_child_from_source_sees_no_foreign_unpacking() -> None:
    env = child_environment(BASE, {}, frozen=False, foreign=False)
    assert not [name for name in env if name.startswith(("_PYI", "_MEIPASS"))]
    assert env["PYTHONPATH"] == "/src"


def test_foreign_child_gets_the_users_libraries_and_no_python_of_ours() -> None:
    env = child_environment(BASE, {}, frozen=True, foreign=True)
    assert env == {"PATH": "/bin", "HOME": "/root", "LD_LIBRARY_PATH": "/usr/local/cuda/lib64"}


def test_foreign_child_has_no_library_path_when_the_user_had_none() -> None:
    base = {"LD_LIBRARY_PATH": "/tmp/_MEI1"}
    assert child_environment(base, {}, frozen=True, foreign=True) == {}
    assert child_environment(base, {}, frozen=False, foreign=True) == base


def test_secrets_and_service_variables_stay_here_unless_given_on_purpose() -> None:
    base = {
        "OPENAI_API_KEY": "x",
        "APPLIANCE_API_KEYS": "x",
        "hf_token": "x",
        "TOKEN": "x",
        "DB_PASSWORD": "x",
        "NOTIFY_SOCKET": "/run/n",
        "_APPLIANCE_LEASE": "a.1",
        "TOKENIZERS_PARALLELISM": "false",
        "KEYBOARD": "us",
    }
    env = child_environment(base, {"HF_TOKEN": "given"}, frozen=False, foreign=True)
    assert env == {"TOKENIZERS_PARALLELISM": "false", "KEYBOARD": "us", "HF_TOKEN": "given"}
