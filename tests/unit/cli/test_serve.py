"""Flags of `serve` as the options of the node role."""

from pathlib import Path

import click
import pytest

from appliance.cli.serve import node_options, serve
from appliance.cli.verb import Call
from appliance.core.errors import UsageError
from appliance.roles.options import NodeOptions


def options(tmp_path: Path, *args: str) -> NodeOptions:
    call = Call()
    context = serve.make_context("serve", ["--state-dir", str(tmp_path / "state"), *args], obj=call)
    return node_options(call, context.params)


def test_flags_that_are_settings_become_settings(tmp_path: Path) -> None:
    made = options(
        tmp_path,
        *("--host", "::1", "--port", "0", "--router-mode", "random", "--insecure-no-auth", "--no-enable-anthropic-api"),
        *("--cors-origin", "https://a", "--cors-origin", "https://b", "--drain-s", "1.5", "--access-log"),
    )
    http = made.settings.http
    assert (http.host, http.port, http.insecure_no_auth, http.enable_anthropic_api) == ("::1", 0, True, False)
    assert (http.cors_origins, http.access_log) == (("https://a", "https://b"), True)
    assert (made.settings.router.mode, made.settings.drain.request_s) == ("random", 1.5)


def test_a_flag_that_was_not_given_leaves_the_file_its_word(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text("[http]\nport = 7\naccess_log = true\nenable_anthropic_api = false\n")
    http = options(tmp_path, "--config", str(file)).settings.http
    assert (http.port, http.access_log, http.enable_anthropic_api) == (7, True, False)


def test_worker_flags_become_the_wish(tmp_path: Path) -> None:
    made = options(
        tmp_path,
        *("--engine", "mocker", "--engine-arg", "step_ms=5", "--engine-arg", "text=a=b", "--replicas", "2"),
        *(
            "--served-model-name",
            "org/name",
            "--context-length",
            "64",
            "--task",
            "embed",
            "--tool-call-parser",
            "hermes",
        ),
        "m",
    )
    assert made.models == ("m",)
    assert made.wish.engine_args == {"step_ms": "5", "text": "a=b"}
    assert (made.wish.engine, made.wish.replicas, made.wish.task) == ("mocker", 2, "embed")
    assert (made.wish.served_model_name, made.wish.context_length) == ("org/name", 64)
    assert made.wish.tool_call_parser == "hermes"


def test_paths_of_models_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    assert options(tmp_path, "folder", "missing.gguf", "org/hub-id").models == (
        str(tmp_path / "folder"),
        str(tmp_path / "missing.gguf"),
        "org/hub-id",
    )


def test_the_state_dir_flag_decides_where_everything_lies(tmp_path: Path) -> None:
    assert options(tmp_path).paths.state_dir == tmp_path / "state"


def test_one_name_for_two_models_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="names one model"):
        options(tmp_path, "--served-model-name", "x", "a", "b")


@pytest.mark.parametrize(
    "args", [("--engine", "vlm"), ("--replicas", "-1"), ("--task", "sing"), ("--engine-arg", "novalue"), ("--bogus",)]
)
def test_wrong_flags_are_usage_errors(tmp_path: Path, args: tuple[str, ...]) -> None:
    with pytest.raises(click.UsageError):
        options(tmp_path, *args)


def test_router_flags_become_settings(tmp_path: Path) -> None:
    made = options(
        tmp_path,
        *("--router-mode", "kv", "--router-kv-overlap-score-credit", "0.5", "--no-router-kv-events"),
        *(
            "--router-queue-threshold",
            "None",
            "--active-prefill-tokens-threshold",
            "7",
            "--router-queue-policy",
            "wspt",
        ),
    )
    router = made.settings.router
    assert (router.mode, router.overlap_score_credit, router.kv_events) == ("kv", 0.5, False)
    assert (router.queue_threshold, router.active_prefill_tokens_threshold, router.queue_policy) == (None, 7, "wspt")


def test_old_router_flags_work_and_warn(tmp_path: Path) -> None:
    made = options(
        tmp_path,
        *("--no-kv-events", "--track-output-blocks", "--kv-overlap-score-weight", "0", "--router-event-threads", "4"),
    )
    router = made.settings.router
    assert (router.kv_events, router.track_output_blocks) == (False, True)
    assert (router.prefill_load_scale, router.overlap_score_credit) == (0.0, 0.0)
    assert len(made.warnings) == 4
    assert "ignoring --router-event-threads: it has no effect here" in made.warnings
    assert options(tmp_path, "--kv-events", "--no-router-kv-events").settings.router.kv_events is False


@pytest.mark.parametrize(
    "flags",
    [
        ("--router-kv-overlap-score-credit", "1.1"),
        ("--router-temperature", "-1"),
        ("--router-queue-threshold", "many"),
        ("--router-track-output-blocks", "--no-router-track-active-blocks"),
        ("--router-prefill-load-model", "aic", "--router-queue-policy", "wspt"),
        ("--router-prefill-load-model", "aic", "--no-router-track-prefill-tokens"),
    ],
)
def test_router_settings_that_cannot_be_are_one_line(tmp_path: Path, flags: tuple[str, ...]) -> None:
    with pytest.raises(UsageError) as caught:
        options(tmp_path, *flags)
    assert "router." in caught.value.message
    assert "\n" not in caught.value.message


def test_halves_of_a_split_model_are_counted(tmp_path: Path) -> None:
    wish = options(tmp_path, "--prefill", "1", "--decode", "2", "m").wish
    assert (wish.prefill, wish.decode, wish.replicas) == (1, 2, 1)


@pytest.mark.parametrize(
    ("flags", "cure"),
    [
        (("--prefill", "1"), "such as --decode 1"),
        (("--decode", "2"), "such as --prefill 1"),
        (("--prefill", "1", "--decode", "1", "--replicas", "1"), "use it, or --prefill and --decode"),
        (("--prefill", "1", "--decode", "1", "--engine", "remote"), "use --replicas"),
    ],
)
def test_half_a_split_is_refused_with_the_cure(tmp_path: Path, flags: tuple[str, ...], cure: str) -> None:
    with pytest.raises(UsageError) as caught:
        options(tmp_path, *flags, "m")
    assert cure in caught.value.message
