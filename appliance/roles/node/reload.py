"""SIGHUP: the settings are read anew; what may change while we run is changed, for the rest it says what to do."""

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, replace

import structlog
import trio

from appliance.core.errors import ApplianceError
from appliance.core.records import KeyRecord, LedgerEvent
from appliance.core.setting_keys import KEYS
from appliance.core.settings import Settings
from appliance.frontend.protocols.request_template import read_request_template
from appliance.roles.key_file import read_key_file
from appliance.web.tls import server_context

log = structlog.get_logger(__name__)

LIVE = frozenset(
    {
        "http.api_key_file",
        "http.cors_origins",
        "http.tls_cert_path",
        "http.tls_key_path",
        "requests.hold_s",
        "requests.migration_limit",
        "requests.first_token_s",
        "requests.exclude_tools_when_tool_choice_none",
        "log.level",
        *(key.key for key in KEYS.values() if key.group in ("router", "residency")),
    }
)
"""Settings that take effect at once; workers that already run keep their log level."""

FRONT_ENDS = frozenset(
    {
        "http.access_log",
        "http.body_limit_mb",
        "http.enable_anthropic_api",
        "http.enable_streaming_reasoning_dispatch",
        "http.enable_streaming_tool_dispatch",
        "http.idle_s",
        "http.send_buffer_bytes",
        "http.send_stall_s",
        "http.strip_anthropic_preamble",
        "requests.template_file",
    }
)
"""Settings that front ends read when they start: for these they are replaced, one by one, and no request is lost."""


CHANGEABLE = LIVE - {"http.api_key_file", "http.tls_cert_path", "http.tls_key_path"}
"""Settings that can be changed one by one; the others name files, which are read when all settings are."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """What a reload comes to."""

    settings: Settings
    """The old ones, with the live ones replaced."""
    applied: tuple[str, ...]
    waiting: tuple[str, ...]
    """Changed settings that take effect at the next start only."""

    @property
    def replaces_front_ends(self) -> bool:
        """It takes effect in new front ends."""
        return not FRONT_ENDS.isdisjoint(self.applied)


def plan_change(old: Settings, new: Settings) -> Change:
    """Sort the settings that differ into those that can change now and those that wait for a restart."""
    changed = [key for key in KEYS if read_setting(old, key) != read_setting(new, key)]
    live = LIVE | FRONT_ENDS
    if _speaks_tls(old) != _speaks_tls(new):
        live -= {"http.tls_cert_path", "http.tls_key_path"}
    applied = tuple(key for key in changed if key in live)
    settings = old
    for key in applied:
        settings = with_setting(settings, key, read_setting(new, key))
    return Change(settings=settings, applied=applied, waiting=tuple(key for key in changed if key not in live))


class Reloader:
    """Acts on SIGHUP. What cannot be read leaves everything as it is."""

    def __init__(
        self,
        load: Callable[[], Settings],
        current: Callable[[], Settings],
        apply: Callable[[Settings, list[KeyRecord]], None],
        note: Callable[[LedgerEvent], None],
    ) -> None:
        """`load` may block; `apply` gets the settings and the keys of the key file; `note` takes the decision down."""
        self._load, self._current, self._apply, self._note = load, current, apply, note

    async def run(
        self,
        on_begin: Callable[[], None],
        on_end: Callable[[], None],
        on_hang_up: Callable[[], None],
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Wait for signals for ever. `on_hang_up`: the terminal that we were started from has gone."""
        with trio.open_signal_receiver(signal.SIGHUP) as received:
            terminal = os.isatty(0)
            task_status.started()
            async for _ in received:
                if terminal and not os.isatty(0):
                    on_hang_up()
                    continue
                on_begin()
                try:
                    await self.reload()
                finally:
                    on_end()

    async def reload(self) -> None:
        """Read settings, key file and certificate anew and take them up, or say why not."""
        try:
            change, keys = await trio.to_thread.run_sync(self._read)
        except ApplianceError as error:
            log.error("settings stay as they are", reason=error.message)
            self._note(LedgerEvent(subject="appliance", action="refuse", reason=f"cannot reload: {error.message}"))
            return
        self._apply(change.settings, keys)
        self._note(LedgerEvent(subject="appliance", action="reload", reason=describe(change), inputs=_inputs(change)))

    def _read(self) -> tuple[Change, list[KeyRecord]]:
        change = plan_change(self._current(), self._load())
        http = change.settings.http
        server_context(http.tls_cert_path, http.tls_key_path)  # a bad file must not reach the front ends
        if change.settings.requests.template_file is not None:
            read_request_template(change.settings.requests.template_file)
        return change, read_key_file(http.api_key_file)


def describe(change: Change) -> str:
    """One line for log and ledger."""
    parts = ["read key file and certificates anew"]
    parts.append(f"changed {', '.join(change.applied)}" if change.applied else "no setting changed")
    if change.replaces_front_ends:
        parts.append("front ends are replaced one by one")
    if change.waiting:
        parts.append(f"needs a restart: {', '.join(change.waiting)}")
    return "; ".join(parts)


def _inputs(change: Change) -> dict[str, object]:
    shown = {key: read_setting(change.settings, key) for key in change.applied}
    return {key: list(value) if isinstance(value, tuple) else value for key, value in shown.items()}


def with_setting(settings: Settings, key: str, value: object) -> Settings:
    """Settings with one of them replaced."""
    group, _, name = key.partition(".")
    return replace(settings, **{group: replace(getattr(settings, group), **{name: value})})


def read_setting(settings: Settings, key: str) -> object:
    """The value of a setting by its key."""
    group, _, name = key.partition(".")
    return getattr(getattr(settings, group), name)


def _speaks_tls(settings: Settings) -> bool:
    return settings.http.tls_cert_path is not None
