"""What SIGHUP changes, what it leaves for a restart, and that a bad file changes nothing."""

from dataclasses import replace
from pathlib import Path

import pytest

from appliance.core.errors import UsageError
from appliance.core.records import KeyRecord, LedgerEvent
from appliance.core.setting_keys import KEYS
from appliance.core.settings import HttpSettings, LogSettings, RequestSettings, Settings
from appliance.roles.node.reload import FRONT_ENDS, LIVE, Reloader, describe, plan_change
from appliance.web.guards import hash_key


class Node:
    """Takes down what a reload does."""

    def __init__(self, wanted: Settings | UsageError) -> None:
        self.wanted = wanted
        self.settings = Settings()
        self.keys: list[KeyRecord] | None = None
        self.events: list[LedgerEvent] = []
        self.reloader = Reloader(self.load, lambda: self.settings, self.apply, self.events.append)

    def load(self) -> Settings:
        if isinstance(self.wanted, UsageError):
            raise self.wanted
        return self.wanted

    def apply(self, settings: Settings, keys: list[KeyRecord]) -> None:
        self.settings, self.keys = settings, keys


def test_live_settings_exist() -> None:
    assert set(KEYS) >= LIVE


def test_nothing_changed() -> None:
    change = plan_change(Settings(), Settings())
    assert (change.settings, change.applied, change.waiting) == (Settings(), (), ())
    assert "no setting changed" in describe(change)


def test_live_settings_change_and_others_wait() -> None:
    new = Settings(
        http=HttpSettings(port=9, cors_origins=("https://a",)),
        requests=RequestSettings(hold_s=1),
        log=LogSettings(level="debug", format="jsonl"),
    )
    change = plan_change(Settings(), new)
    assert set(change.applied) == {"http.cors_origins", "requests.hold_s", "log.level"}
    assert set(change.waiting) == {"http.port", "log.format"}
    assert change.settings.http == HttpSettings(cors_origins=("https://a",))
    assert change.settings.log == LogSettings(level="debug")
    assert "needs a restart: http.port, log.format" in describe(change)


def test_what_front_ends_read_at_their_start_replaces_them() -> None:
    assert set(KEYS) >= FRONT_ENDS
    change = plan_change(Settings(), Settings(http=HttpSettings(idle_s=1, port=9)))
    assert change.replaces_front_ends
    assert (change.applied, change.waiting) == (("http.idle_s",), ("http.port",))
    assert "front ends are replaced one by one" in describe(change)
    assert not plan_change(Settings(), Settings(requests=RequestSettings(hold_s=1))).replaces_front_ends


def test_tls_is_not_switched_on_while_running() -> None:
    with_tls = Settings(http=HttpSettings(tls_cert_path="a", tls_key_path="b"))
    assert plan_change(Settings(), with_tls).waiting == ("http.tls_cert_path", "http.tls_key_path")
    other = Settings(http=replace(with_tls.http, tls_cert_path="c"))
    assert plan_change(with_tls, other).applied == ("http.tls_cert_path",)


async def test_keys_are_read_anew(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("one\n")
    node = Node(Settings(http=HttpSettings(api_key_file=str(file))))
    await node.reloader.reload()
    file.write_text("two\nthree\n")
    await node.reloader.reload()
    assert node.keys is not None
    assert [key.sha256 for key in node.keys] == [hash_key("two"), hash_key("three")]
    assert [event.action for event in node.events] == ["reload", "reload"]
    assert node.events[0].inputs == {"http.api_key_file": str(file)}


@pytest.mark.parametrize("wanted", [UsageError("unknown setting"), Settings(http=HttpSettings(api_key_file="/none"))])
async def test_what_cannot_be_read_changes_nothing(wanted: Settings | UsageError) -> None:
    node = Node(wanted)
    await node.reloader.reload()
    assert (node.settings, node.keys) == (Settings(), None)
    assert [event.action for event in node.events] == ["refuse"]
    assert "cannot reload" in node.events[0].reason
