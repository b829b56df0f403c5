"""An appliance for the time of one chat: our own executable as a child, with a state dir that is thrown away."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from appliance.cli.admin_client import AdminClient
from appliance.cli.output import note
from appliance.core.config import environment, without_child_variables
from appliance.core.errors import ApplianceError
from appliance.core.paths import resolve_paths
from appliance.roles.own_executable import own_command
from appliance.supervision.parent_death import die_with_parent

STOP_S = 10.0  # nobody else uses it, so nothing needs to be drained


@contextlib.contextmanager
def temporary_appliance(model: str | None) -> Iterator[AdminClient]:
    """Start `serve` and wait until it is ready; end it when the block is left. Raises `ApplianceError` with its reason.

    The wait has no deadline of its own: the appliance bounds the start of its workers, and Ctrl-C ends both.
    """
    state = Path(tempfile.mkdtemp(prefix="dynamo-chat-"))
    log = state / "appliance.log"
    environ = without_child_variables(environment())
    argv = [*own_command("serve", "--port", "0", "--state-dir", str(state), "--log-level", "warning")]
    argv += [str(Path(model).absolute()) if Path(model).exists() else model] if model else []
    try:
        with log.open("wb") as stderr:
            process = _start(argv, environ, stderr.fileno())
        try:
            _wait_ready(process, log)
            yield AdminClient.find(resolve_paths(str(state), environ), environ)
        finally:
            _end(process)
    finally:
        shutil.rmtree(state, ignore_errors=True)


def _start(argv: list[str], environ: dict[str, str], stderr: int) -> subprocess.Popen[str]:
    parent = os.getpid()
    # Its own session: Ctrl-C in the chat stops an answer, not the appliance. With our death it dies too.
    return subprocess.Popen(
        argv,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: die_with_parent(parent),  # safe: no other thread
    )


def _wait_ready(process: subprocess.Popen[str], log: Path) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("ready: "):
            return
        note(line.rstrip())
    process.wait()
    lines = log.read_text(errors="replace").strip().splitlines() or ["no reason given"]
    raise ApplianceError(f"cannot start a temporary appliance: {lines[-1].removeprefix('error: ')}")


def _end(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()  # ends at once: nothing outlives SIGKILL
    if process.stdout is not None:
        process.stdout.close()
