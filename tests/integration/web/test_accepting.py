"""Accepting when the process is out of descriptors."""

import resource

import trio

from tests.helpers.http import echo, eventually, get, serving


async def test_listener_survives_a_shortage_of_descriptors() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with serving(echo) as served:
        kept = await served.connect()
        assert (await kept.ask(get("/"))).status == 200
        waiting = [trio.socket.socket() for _ in range(3)]
        used = max(sock.fileno() for sock in waiting) + 1
        resource.setrlimit(resource.RLIMIT_NOFILE, (used, hard))
        try:
            for sock in waiting:
                await sock.connect(("127.0.0.1", served.port))
            with trio.fail_after(2):
                for sock in waiting:  # shed: closed, not left hanging
                    assert await _is_dropped(sock)
            assert (await kept.ask(get("/"))).status == 200
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for sock in waiting:
                sock.close()
        await trio.sleep(0.15)
        assert (await (await served.connect()).ask(get("/"))).status == 200
        await eventually(lambda: served.listener.connections == 2)


async def _is_dropped(sock: trio.socket.SocketType) -> bool:
    try:
        return await sock.recv(1) == b""
    except ConnectionResetError:
        return True
