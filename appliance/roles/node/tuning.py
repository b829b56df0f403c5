"""What can be changed while the appliance runs: settings one by one, and the busy thresholds of a model."""

from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec

from appliance.core.config import check_settings
from appliance.core.errors import UsageError
from appliance.core.ports import StateStore, StateWriter
from appliance.core.records import BusyThreshold, LedgerEvent, StoredObject
from appliance.core.setting_keys import KEYS, parse_text, unknown_key
from appliance.core.settings import Settings
from appliance.frontend.control.views import BusyThresholdOrder
from appliance.roles.busy_thresholds import changed_threshold, thresholds_in_force
from appliance.roles.node.board import Board
from appliance.roles.node.reload import CHANGEABLE, read_setting, with_setting
from appliance.telemetry.logs import set_log_level

Object = dict[str, Any]
KIND = "BusyThreshold"
REASON = "asked for by a user"


class Tuning:
    """Checks changes, makes them, and notes them in the ledger."""

    def __init__(self, board: Board, store: StateStore, use: Callable[[Settings], None]) -> None:
        """`use` gets changed settings, for what is started later."""
        self._board, self._store, self._use = board, store, use

    async def restore(self) -> None:
        """Use the thresholds that were set before the last stop."""
        stored = await self._store.read(lambda reader: reader.list_all(KIND))
        self._board.set_busy_thresholds([msgspec.convert(one.spec, BusyThreshold) for one in stored])

    async def change_config(self, changes: dict[str, str]) -> Object:
        """See `Diagnosis.change_config`."""
        old = settings = self._board.settings
        for name, text in changes.items():
            if name not in KEYS:
                raise unknown_key(name, KEYS, "config set")
            if name not in CHANGEABLE:
                raise UsageError(f"{name} cannot change while the appliance runs: set it in a file and restart")
            settings = with_setting(settings, name, parse_text(KEYS[name], text, "config set"))
        check_settings(settings)
        changed = {
            name: {"old": _shown(read_setting(old, name)), "new": _shown(read_setting(settings, name))}
            for name in changes
            if read_setting(old, name) != read_setting(settings, name)
        }
        if changed:
            await self._record("appliance", "configure", changed)
            self._use(settings)
            set_log_level(settings.log.level)
            self._board.change_settings(settings)
        return changed

    def thresholds(self) -> list[BusyThreshold]:
        """Of every model, its own or those of the settings."""
        return thresholds_in_force(self._board.models(), self._board.busy_thresholds, self._board.settings.router)

    async def set_threshold(self, order: BusyThresholdOrder) -> BusyThreshold:
        """See `ControlView.set_busy_threshold`."""
        found, changed = changed_threshold(self.thresholds(), order)
        if changed != found:
            await self._store.write(partial(_keep, found, changed))
            others = [one for one in self._board.busy_thresholds if one.model != order.model]
            self._board.set_busy_thresholds([*others, changed])
        return changed

    async def _record(self, subject: str, action: str, changed: Object) -> None:
        event = _event(subject, action, changed)
        await self._store.write(lambda writer: writer.record(event))


def _keep(old: BusyThreshold, new: BusyThreshold, writer: StateWriter) -> None:
    writer.put(StoredObject(kind=KIND, name=new.model, spec=msgspec.to_builtins(new)))
    before, after = msgspec.structs.asdict(old), msgspec.structs.asdict(new)
    changed = {name: {"old": before[name], "new": value} for name, value in after.items() if value != before[name]}
    writer.record(_event(f"model/{new.model}", "threshold", changed))


def _event(subject: str, action: str, changed: Object) -> LedgerEvent:
    inputs = {name: f"{one['old']} -> {one['new']}" for name, one in changed.items()}
    return LedgerEvent(subject=subject, action=action, reason=REASON, inputs=inputs)


def _shown(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value
