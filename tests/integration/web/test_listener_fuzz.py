"""Mutated requests give an answer or a close, never a hang or a fault."""

import random

import pytest
import trio

from appliance.core.settings import HttpSettings
from appliance.web.limits import HttpLimits
from tests.helpers.http import echo, eventually, get, post, serving

SEEDS = (
    get("/path?query=1", "accept: */*", "connection: keep-alive"),
    post("/v1/chat/completions", b'{"model":"m"}', "content-type: application/json", "expect: 100-continue"),
    b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nt: v\r\n\r\n",
    get("/ws", "connection: upgrade", "upgrade: websocket") + get("/next"),
    b"HEAD http://x/y HTTP/1.0\r\nconnection: keep-alive\r\n\r\n",
)
ODD = (b"\r\n", b"\0", b":", b" ", b"\t", b"\xff", b"0", b"-1", b"99999999999999999999", b"chunked", b"\r", b"\n", b";")
CASES = 2000


def mutate(data: bytes, chance: random.Random) -> bytes:
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(data) + 1)
        end = min(len(data), at + chance.randint(0, 6))
        match chance.randrange(4):
            case 0:
                data = data[:at] + chance.choice(ODD) + data[at:]
            case 1:
                data = data[:at] + data[end:]
            case 2:
                data = data[:at] + bytes([chance.randrange(256)]) + data[at + 1 :]
            case _:
                data = data[:at] + data[chance.randrange(len(data) + 1) :]
    return data or b"x"


@pytest.mark.slow
async def test_mutated_requests() -> None:
    chance = random.Random(20)
    statuses: set[int] = set()
    async with serving(echo, HttpSettings(), HttpLimits(linger_s=0.2, tick_s=0.05)) as served:
        for _ in range(CASES):
            client = await trio.open_tcp_stream("127.0.0.1", served.port)
            reply = b""
            with trio.fail_after(5):
                await client.send_all(mutate(chance.choice(SEEDS), chance))
                await client.send_eof()
                try:
                    while data := await client.receive_some():
                        reply += data
                except trio.BrokenResourceError:
                    pass
            client.socket.close()
            if reply:
                assert reply.startswith(b"HTTP/1.1 ")
                statuses.add(int(reply[9:12]))
        await eventually(lambda: served.listener.connections == 0)
        assert served.listener.active == 0
        assert not served.errors
    assert {200, 400} <= statuses
    assert statuses <= {100, 200, 400, 408, 413, 417, 431, 501}
