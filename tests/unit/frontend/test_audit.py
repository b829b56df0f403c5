"""The audit log: which requests leave a record, what stands in it, and a disk that is full."""

import errno
import json
import logging
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from appliance.core.errors import WorkerLost
from appliance.core.requests import TokenChunk
from appliance.frontend import audit
from appliance.frontend.audit import AuditEntry, AuditLog, Sink
from appliance.frontend.audit_file import RollingFile
from appliance.frontend.protocols.openai.decode import decode_chat
from appliance.frontend.protocols.openai.formats import chat_format
from tests.fakes.client import RecordingClient
from tests.helpers.answers import ID, SAY_HI, chunk, feed, hermes, make_answer

CALL = '<tool_call>{"name": "f", "arguments": {"x": 1}}</tool_call>'
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]


class Kept:
    """A log whose sink is a list."""

    def __init__(self, *, force: bool = True, capacity: int = 8, sinks: list[Sink] | None = None) -> None:
        self.lines: list[bytes] = []
        self.fates: Counter[str] = Counter()
        self.log = AuditLog(
            [self.lines.append] if sinks is None else sinks,
            capacity=capacity,
            force=force,
            count=lambda fate, count: self.fates.update({fate: count}),
        )

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line)["event"] for line in self.lines]


def body(**members: Any) -> bytes:
    return json.dumps({"model": "m", "messages": SAY_HI, **members}, indent=2).encode()


def run(entry: AuditEntry, sent: bytes, *steps: TokenChunk, lost: bool = False) -> bytes:
    """What the service does with an audited request; the bytes that the client got."""
    client = RecordingClient()
    with entry:
        request = entry.decoding(decode_chat)(sent, ID)
        answer = make_answer(request, client, format=entry.taping(chat_format)(request), parser=lambda: hermes(request))
        feed(answer, *steps)
        if lost:
            answer.choices[0].on_error(WorkerLost("gone"))
        elif answer.choices[0].finish is not None and not request.stream:
            client.respond(200, answer._document())
        entry.used(answer.usage())
    return client.body


def begun(kept: Kept, sent: bytes) -> AuditEntry:
    entry = kept.log.begin(sent)
    assert entry is not None
    return entry


@pytest.mark.parametrize("stream", [False, True])
async def test_a_record_has_the_request_and_the_whole_answer(stream: bool) -> None:
    kept = Kept()
    sent = body(stream=stream, tools=TOOLS, temperature=1.50)
    run(begun(kept, sent), sent, chunk("<think>hm</think>"), chunk("Hello"), chunk(CALL), chunk("", "stop"))
    await kept.log.flush()
    (event,) = kept.events()
    assert kept.lines[0].count(b"\n") == 1
    assert b'"temperature":1.5' in kept.lines[0]
    assert (event["schema_version"], event["request_id"], event["model"]) == (1, ID, "m")
    assert event["requested_streaming"] is stream
    assert event["request"] == json.loads(sent)
    (choice,) = event["response"]["choices"]
    assert choice["message"]["content"] == "Hello"
    assert choice["message"]["reasoning_content"] == "hm"
    assert choice["message"]["tool_calls"][0]["function"] == {"name": "f", "arguments": '{"x":1}'}
    assert choice["finish_reason"] == "tool_calls"
    assert event["response"]["usage"]["prompt_tokens"] == 7
    assert kept.fates == {"written": 1, "dropped": 0}


async def test_a_taped_stream_is_the_stream_itself() -> None:
    sent = body(stream=True, n=1)
    request = decode_chat(sent, ID)
    plain = RecordingClient()
    feed(make_answer(request, plain), chunk("a"), chunk("b", "stop"))
    taped = run(begun(Kept(), sent), sent, chunk("a"), chunk("b", "stop"))
    assert without_time(taped) == without_time(plain.body)


def without_time(stream: bytes) -> list[Any]:
    events = [json.loads(line[6:]) for line in stream.splitlines() if line.startswith(b"data: {")]
    return [{**event, "created": 0} for event in events]


@pytest.mark.parametrize("lost", [False, True])
async def test_an_answer_that_was_cut_off_is_not_in_the_record(lost: bool) -> None:
    kept = Kept()
    sent = body(stream=True)
    run(begun(kept, sent), sent, chunk("some"), lost=lost)
    await kept.log.flush()
    (event,) = kept.events()
    assert "response" not in event


async def test_what_is_no_request_leaves_no_record() -> None:
    kept = Kept()
    with pytest.raises(Exception, match="messages"):
        run(begun(kept, b'{"model": "m"}'), b'{"model": "m"}')
    await kept.log.flush()
    assert kept.lines == []


@pytest.mark.parametrize(
    ("sent", "taken"),
    [
        (body(store=True), True),
        (body(store=False), False),
        (body(), False),
        (body(user='"store": true'), False),
        (b'{"store": true', False),
        (b'{"store": 1}', False),
    ],
)
async def test_without_force_only_stored_requests_are_taken(sent: bytes, taken: bool) -> None:
    assert (Kept(force=False).log.begin(sent) is not None) is taken
    assert Kept(force=True).log.begin(sent) is not None


async def test_bytes_that_are_no_text_do_not_spoil_the_file() -> None:
    kept = Kept()
    sent = body()[:-1] + b', "x": "\xff"}'
    kept.log.post(decode_chat(body(), ID), sent, None)
    await kept.log.flush()
    assert kept.events()[0]["request"]["x"] == "�"


async def test_without_room_records_are_dropped_and_it_is_said_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = Kept(capacity=2)
    for _ in range(5):
        kept.log.post(decode_chat(body(), ID), body(), None)
    await kept.log.flush()
    assert kept.fates == {"written": 2, "dropped": 3}
    assert caplog.text.count("are dropped") == 1
    monkeypatch.setattr(audit, "HELD_BYTES", len(body()) + 1)
    for _ in range(2):
        kept.log.post(decode_chat(body(), ID), body(), None)
    assert kept.fates["dropped"] == 4


async def test_a_full_disk_is_said_once_and_costs_only_records(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    disk = {"full": True}
    written: list[bytes] = []

    def sink(line: bytes) -> None:
        if disk["full"]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/audit")
        written.append(line)

    kept = Kept(sinks=[sink])
    for disk["full"] in (True, True, False, False):
        kept.log.post(decode_chat(body(), ID), body(), None)
        await kept.log.flush()
    assert kept.fates == {"dropped": 2, "written": 2}
    assert caplog.text.count("cannot write audit records to /audit: No space left on device") == 1
    assert caplog.text.count("written again") == 1


async def test_a_record_that_cannot_be_made_stops_nothing() -> None:
    def broken() -> bytes:
        raise ValueError("odd")

    kept = Kept()
    kept.log.post(decode_chat(body(), ID), body(), broken)
    kept.log.post(decode_chat(body(), ID), body(), None)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(kept.log.run)
        with trio.fail_after(2):
            while len(kept.lines) < 1 or not kept.fates["dropped"]:  # noqa: ASYNC110  there is no event of its own
                await trio.sleep(0.001)
        nursery.cancel_scope.cancel()
    assert kept.fates == {"dropped": 1, "written": 1}


def test_several_processes_may_append_and_roll(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    writers = [RollingFile(path, roll_bytes=100, kept=2) for _ in range(3)]
    for number in range(30):
        writers[number % 3].append(b"%019d\n" % number)
    files = [path, *(path.with_name(f"audit.jsonl.{number}") for number in (1, 2))]
    assert sorted(tmp_path.iterdir()) == sorted(files)
    numbers = [int(line) for file in reversed(files) for line in file.read_text().splitlines()]
    assert numbers == list(range(15, 30))
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}


def test_a_file_that_was_removed_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "a"
    file = RollingFile(path)
    file.append(b"1\n")
    path.unlink()
    file.append(b"2\n")
    assert path.read_bytes() == b"2\n"


def test_half_a_line_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    file = RollingFile(path)
    file.append(b"first\n")
    real: Callable[[int, Any], int] = os.write
    calls = 0

    def short(fd: int, data: Any) -> int:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(fd, data[:3])

    monkeypatch.setattr(os, "write", short)
    with pytest.raises(OSError, match=str(path)):
        file.append(b"second\n")
    monkeypatch.undo()
    file.append(b"third\n")
    assert path.read_bytes() == b"first\nthird\n"


def test_a_folder_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        RollingFile(tmp_path / "none" / "a").append(b"1\n")
