"""Checks of what runs: the port, the system service, the running appliance."""

import errno
import socket
from collections.abc import Iterator

from appliance.core.paths import APP
from appliance.roles.doctor.finding import Finding, Scene, fail, ok, warn

UNIT = f"{APP}.service"
UNIT_FOLDERS = ("etc/systemd/system", "run/systemd/system", "usr/local/lib/systemd/system", "usr/lib/systemd/system")


def check_port(scene: Scene) -> Iterator[Finding]:
    """The public port is free, or ours."""
    if scene.settings is None:
        return
    http = scene.settings.http
    if http.port == 0:
        yield ok("any free port is taken")
        return
    if scene.status is not None:
        yield ok(f"the running appliance serves at {scene.status.get('url')}")
        return
    try:
        family = socket.getaddrinfo(http.host, http.port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family[0], socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(family[4])
    except OSError as error:
        cure = {
            errno.EADDRINUSE: "end the program that has it (ss -ltnp), or choose another port with --port",
            errno.EACCES: "ports below 1024 need a privilege; choose another port with --port",
            errno.EADDRNOTAVAIL: "no interface has this address; choose another one with --host",
        }.get(error.errno or 0, "choose another address with --host")
        yield fail(f"{http.host}:{http.port} cannot be bound: {error.strerror}", cure)
    else:
        yield ok(f"{http.host}:{http.port} is free")


def check_service(scene: Scene) -> Iterator[Finding]:
    """The packaged unit: there, enabled, running. Read from files, which anybody may."""
    installed = any((scene.root / folder / UNIT).exists() for folder in UNIT_FOLDERS)
    if not (scene.root / "run/systemd/system").is_dir():
        yield ok("no systemd here" + ("; the installed unit is not used" if installed else ""))
        return
    if not installed:
        yield ok("not installed as a system service")
        return
    enabled = any((scene.root / "etc/systemd/system").glob(f"*.wants/{UNIT}"))
    active = (scene.root / "run/systemd/units" / f"invocation:{UNIT}").is_symlink()
    text = f"installed, {'enabled' if enabled else 'not enabled'}, {'active' if active else 'not active'}"
    if active or not enabled:
        yield ok(text)
    else:
        yield warn(text, f"it should run: systemctl status {APP}, journalctl -u {APP}")


def check_instance(scene: Scene) -> Iterator[Finding]:
    """The running appliance and what it could not bring up."""
    status = scene.status
    if status is None:
        yield ok(scene.status_error or "none is running")
        return
    state = "draining" if status["draining"] else "ready" if status["ready"] else "starting"
    text = f"pid {status.get('pid', '?')}, {state}, {len(status['workers'])} workers"
    yield ok(text) if state == "ready" else warn(text, "wait for it: dynamo-appliance status")
    for one in (*status["frontends"], *status["workers"]):
        if one["phase"] == "failed":
            yield fail(f"{one['id']} was given up: {one['reason']}", f"dynamo-appliance logs {one['id']}")
        elif one["phase"] == "backoff":
            yield warn(f"{one['id']} waits to start again: {one['reason']}", f"dynamo-appliance logs {one['id']}")
