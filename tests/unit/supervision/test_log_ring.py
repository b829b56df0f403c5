"""The log ring: splitting, bounds, incarnations, followers, and the file behind it."""

from pathlib import Path

import pytest
import trio

from appliance.core.identity import WorkerId
from appliance.supervision import log_ring
from appliance.supervision.log_file import LogFile
from appliance.supervision.log_ring import LogRing

A = WorkerId("serve-worker-0-aaaa")


def make(file: LogFile | None = None) -> LogRing:
    ring = LogRing(file, clock=lambda: 0.0)
    ring.begin(A)
    return ring


def texts(ring: LogRing, last: int | None = None) -> list[str]:
    return [line.text for line in ring.lines(last)]


def test_lines_are_joined_over_reads() -> None:
    ring = make()
    for data in (b"on", b"e\ntw", b"o\r\n\nthree"):
        ring.feed(A, data)
    assert texts(ring) == ["one", "two", ""]
    ring.end(A)
    assert texts(ring, 2) == ["", "three"]


def test_a_progress_bar_keeps_its_last_state() -> None:
    ring = make()
    ring.feed(A, b"10 %\r50 %\r100 %\r\nnext\n")
    assert texts(ring) == ["100 %", "next"]


def test_a_long_line_is_cut_and_the_next_one_is_whole() -> None:
    ring = make()
    for _ in range(40):
        ring.feed(A, b"x" * 1000)
    ring.feed(A, b"\nshort\n")
    first, second = texts(ring)
    assert (len(first), second) == (log_ring.LINE_BYTES + len(log_ring.CUT), "short")


def test_lines_and_bytes_are_bounded() -> None:
    ring = make()
    ring.feed(A, b"".join(b"%d\n" % number for number in range(10_000)))
    assert texts(ring) == [str(number) for number in range(8000, 10_000)]
    ring.feed(A, (b"y" * 8000 + b"\n") * 200)
    assert sum(map(len, texts(ring))) <= log_ring.KEPT_BYTES
    assert len(texts(ring)) == log_ring.KEPT_BYTES // 8000


def test_broken_text_is_shown_not_raised() -> None:
    ring = make()
    ring.feed(A, b"\xff\xfe ok\n")
    assert texts(ring) == ["\ufffd\ufffd ok"]


def test_the_last_few_incarnations_stay() -> None:
    ring = LogRing()
    workers = [WorkerId(f"w-{number}") for number in range(7)]
    for worker in workers:
        ring.begin(worker)
        ring.feed(worker, f"of {worker}\n".encode())
        ring.end(worker)
    assert ring.workers == workers[-4:]
    assert texts(ring) == [f"of {worker}" for worker in workers[-4:]]
    assert [line.text for line in ring.lines(worker=workers[5])] == ["of w-5"]
    ring.feed(workers[0], b"too late\n")
    assert ring.lines(worker=workers[0]) == []


async def test_follow_continues_where_lines_ended() -> None:
    ring = make()
    ring.feed(A, b"before\n")
    before = texts(ring)
    with ring.follow() as lines:
        ring.feed(A, b"after\n")
        assert [*before, (await lines.receive()).text] == ["before", "after"]
    ring.feed(A, b"nobody listens\n")


async def test_a_slow_follower_is_told_what_it_missed() -> None:
    ring = make()
    with ring.follow() as lines:
        ring.feed(A, b"x\n" * (log_ring.FOLLOW_LINES + 5))
        for _ in range(log_ring.FOLLOW_LINES):
            lines.receive_nowait()
        ring.feed(A, b"again\n")
        assert [lines.receive_nowait().text for _ in range(2)] == ["[5 lines skipped]", "again"]
        with pytest.raises(trio.WouldBlock):
            lines.receive_nowait()


def test_the_file_rotates_by_size(tmp_path: Path) -> None:
    file = LogFile(tmp_path / "logs" / "worker.log", max_bytes=100, kept=2)
    ring = make(file)
    for number in range(12):
        ring.feed(A, b"line %d\n" % number)
    file.close()
    names = sorted(path.name for path in (tmp_path / "logs").iterdir())
    assert names == ["worker.log", "worker.log.1", "worker.log.2"]
    assert all(path.stat().st_size <= 100 for path in (tmp_path / "logs").iterdir())
    assert (tmp_path / "logs/worker.log").read_text().splitlines()[-1].endswith("serve-worker-0-aaaa line 11")


def test_an_existing_file_is_continued(tmp_path: Path) -> None:
    path = tmp_path / "worker.log"
    for word in ("one\n", "two\n"):
        file = LogFile(path)
        file.write(word)
        file.close()
    assert path.read_text() == "one\ntwo\n"


def test_a_file_that_cannot_be_written_is_said_once_and_tried_again(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("in the way")
    ring = make(LogFile(tmp_path / "logs" / "worker.log"))
    ring.feed(A, b"one\n")
    ring.feed(A, b"two\n")
    assert len(texts(ring)) == 3
    assert "cannot write" in texts(ring)[1]
    (tmp_path / "logs").unlink()
    ring.feed(A, b"three\n")
    assert (tmp_path / "logs/worker.log").read_text().endswith("three\n")
