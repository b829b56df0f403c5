"""What a front end keeps of requests that have ended, and what it says about its load."""

import gc
import time

import pytest
import trio
from msgspec.structs import replace

from appliance.core.errors import InvalidRequest, WorkerLost
from appliance.core.identity import RequestId
from appliance.frontend.account import Account
from appliance.frontend.accounts import BATCH, Accounts
from appliance.frontend.ended_requests import KEPT, EndedRequests, row
from appliance.telemetry.cells import Metrics
from appliance.telemetry.metrics import TABLE

ONE = Account(
    id=RequestId("r"), model="m", endpoint="chat_completions", stream=True, started=10.0, first_token=10.5, ended=12.0,
    prompt_tokens=3, output_tokens=4, cached_tokens=1, workers=["w1", "w2"], status="success",
)  # fmt: skip


@pytest.fixture
def accounts() -> Accounts:
    return Accounts(Metrics(TABLE))


def test_a_row_has_timings_and_unix_time() -> None:
    told = row(ONE, now=20.0, wall=1000.0)
    assert (told["started"], told["ttft_s"], told["duration_s"]) == (990.0, 0.5, 2.0)
    assert told["workers"] == ["w1", "w2"]
    assert row(replace(ONE, first_token=None), 20.0, 1000.0)["ttft_s"] is None


def test_the_ring_is_bounded_and_the_counts_are_not() -> None:
    ended = EndedRequests()
    for number in range(KEPT + 5):
        ended.add(replace(ONE, id=RequestId(str(number)), status="validation" if number % 2 else "success"))
    rows = ended.rows()
    assert len(rows) == KEPT
    assert rows[0]["id"] == str(KEPT + 4), "newest first"
    assert (ended.count, ended.failed, ended.output_tokens) == (KEPT + 5, (KEPT + 5) // 2, 4 * (KEPT + 5))


async def test_each_end_has_its_status(accounts: Accounts) -> None:
    with accounts.request(RequestId("good"), "chat_completions") as account:
        account.model = "m"
        account.workers.append("w")
        account.first_token = time.perf_counter()
        account.output_tokens = 7
    with pytest.raises(InvalidRequest), accounts.request(RequestId("bad"), "chat_completions"):
        raise InvalidRequest("no such thing")
    with pytest.raises(ZeroDivisionError), accounts.request(RequestId("broken"), "embeddings"):
        raise ZeroDivisionError("a secret path")
    with trio.move_on_after(0), accounts.request(RequestId("gone"), "completions"):
        await trio.sleep_forever()
    rows = {row["id"]: row for row in accounts.ended()}
    assert {id: row["status"] for id, row in rows.items()} == {
        "good": "success",
        "bad": "validation",
        "broken": "internal",
        "gone": "cancelled",
    }
    assert rows["bad"]["error"] == "no such thing"
    assert rows["broken"]["error"] == "", "only what clients are told"
    load = accounts.load()
    assert (load["requests"], load["failed"], load["output_tokens"], load["active"]) == (4, 2, 7, 0)
    assert len(accounts.load()["ttfts_s"]) == 1  # type: ignore[arg-type]  # plain data has no types


def test_what_ended_is_known_at_once_and_in_order(accounts: Accounts) -> None:
    for number in range(BATCH + 2):
        with accounts.request(RequestId(str(number)), "completions"):
            pass
        assert accounts.load()["requests"] == number + 1
    assert [row["id"] for row in accounts.ended()[:3]] == [str(BATCH + 1), str(BATCH), str(BATCH - 1)]


def test_an_error_is_not_kept_but_what_it_said_is(accounts: Accounts) -> None:
    lost = WorkerLost("the worker went away")
    with accounts.request(RequestId("r"), "chat_completions") as account:
        account.error = lost
    (told,) = accounts.ended()
    assert (told["status"], told["error"]) == ("internal", "the worker went away")
    assert account.error is lost, "who traces the request asks for it later"
    kept = [one for one in gc.get_referrers(lost) if isinstance(one, Account)]
    assert kept == [account]


async def test_running_requests_count_with_what_they_have(accounts: Accounts) -> None:
    with accounts.request(RequestId("r"), "chat_completions") as account:
        assert accounts.load()["waiting"] == 1
        account.workers.append("w")
        account.produced = lambda: 5
        load = accounts.load()
        assert (load["active"], load["waiting"], load["output_tokens"]) == (1, 0, 5)
        assert accounts.snapshot()[0]["output_tokens"] == 5
        account.produced, account.output_tokens = None, 6
    assert accounts.load()["output_tokens"] == 6
