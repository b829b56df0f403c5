"""HTTPS over the codec, and the errors of wrong files."""

import ssl
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
import trio

from appliance.core.errors import UsageError
from appliance.web.exchange import Exchange
from appliance.web.tls import renew_context, server_context
from tests.helpers.http import RawClient, echo, eventually, get, post, serving


def make_certificate(folder: Path, name: str) -> tuple[str, str]:
    """A self-signed certificate for localhost, and its key."""
    cert, key = folder / f"{name}.pem", folder / f"{name}.key"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-keyout", str(key), "-out", str(cert), "-days", "2", "-subj", "/CN=localhost"]
    subprocess.run([*command, "-addext", "subjectAltName=DNS:localhost"], check=True, capture_output=True)
    return str(cert), str(key)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    return make_certificate(tmp_path_factory.mktemp("tls"), "server")


async def connect(port: int, cert: str) -> RawClient:
    """A client that trusts the certificate and offers HTTP/2 as well."""
    context = ssl.create_default_context(cafile=cert)
    context.set_alpn_protocols(["h2", "http/1.1"])
    plain = await trio.open_tcp_stream("127.0.0.1", port)
    stream = trio.SSLStream(plain, context, server_hostname="localhost", https_compatible=True)
    await stream.do_handshake()
    assert stream.selected_alpn_protocol() == "http/1.1"
    return RawClient(stream)


async def test_requests_streams_and_large_bodies_over_tls(certificate: tuple[str, str]) -> None:
    async def stream(exchange: Exchange) -> None:
        exchange.start_stream()
        for index in range(50):
            exchange.write(b"%d" % index * 1000)
            exchange.flush()
            await trio.lowlevel.checkpoint()
        exchange.end()

    async with serving({"/": echo, "/s": stream}, tls=server_context(*certificate)) as served:
        client = await connect(served.port, certificate[0])
        served.clients.append(client)
        assert (await client.ask(get("/"))).body == b"GET /  "
        await client.send(get("/s"))
        await client.read_head()
        assert await client.read_chunks() == [b"%d" % index * 1000 for index in range(50)]
        large = b"z" * 3_000_000
        assert (await client.ask(post("/", large, "connection: close"))).body.endswith(large)
        assert await client.is_closed()


async def test_plain_http_and_garbage_on_the_tls_port_are_dropped(certificate: tuple[str, str]) -> None:
    async with serving(echo, tls=server_context(*certificate)) as served:
        for data in (get("/"), b"\x16\x03\x01\x00\xff" + b"\0" * 300, b""):
            client = await served.connect()
            await client.send(data)
            try:
                answer = await client.read_to_end()
            except trio.BrokenResourceError:
                answer = b""
            assert b"HTTP/1.1 200" not in answer
        await eventually(lambda: served.listener.connections == 0)
        assert not served.errors


async def test_client_that_leaves_a_tls_stream_cancels_it(certificate: tuple[str, str]) -> None:
    ended = trio.Event()

    async def wait(exchange: Exchange) -> None:
        exchange.start_stream()
        exchange.flush()
        try:
            await trio.sleep_forever()
        finally:
            ended.set()

    async with serving(wait, tls=server_context(*certificate)) as served:
        client = await connect(served.port, certificate[0])
        await client.send(get())
        await client.read_head()
        client.close()
        with trio.fail_after(1):
            await ended.wait()


def test_wrong_files_give_one_clear_line(certificate: tuple[str, str], tmp_path: Path) -> None:
    cert, key = certificate
    _, other_key = make_certificate(tmp_path, "other")
    text = tmp_path / "text.pem"
    text.write_text("hello")
    assert server_context(None, None) is None
    for pair, words in (
        ((cert, None), "together"),
        ((cert, str(tmp_path / "none")), "No such file"),
        ((str(tmp_path), key), "Is a directory"),
        ((cert, other_key), "does not belong"),
        ((str(text), key), "no PEM"),
    ):
        with pytest.raises(UsageError, match=words):
            server_context(*pair)


async def test_a_request_in_one_packet_with_the_end_of_the_handshake_is_answered(certificate: tuple[str, str]) -> None:
    context = ssl.create_default_context(cafile=certificate[0])
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    session = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    async with (
        serving(echo, tls=server_context(*certificate)) as served,
        await trio.open_tcp_stream("127.0.0.1", served.port) as plain,
    ):
        with trio.fail_after(5):
            while True:
                try:
                    session.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    await plain.send_all(outgoing.read())
                    incoming.write(await plain.receive_some())
            session.write(get("/"))
            await plain.send_all(outgoing.read())
            answer = b""
            while b"GET /" not in answer:
                incoming.write(await plain.receive_some())
                with suppress(ssl.SSLWantReadError):
                    answer += session.read(65536)


async def test_a_renewed_certificate_serves_new_connections_and_leaves_old_ones(tmp_path: Path) -> None:
    old, new = make_certificate(tmp_path, "old"), make_certificate(tmp_path, "new")
    context = server_context(*old)
    assert context is not None
    async with serving({"/": echo}, tls=context) as served:
        before = await connect(served.port, old[0])
        served.clients.append(before)
        await trio.Path(old[0]).write_text("no certificate")
        with pytest.raises(UsageError, match="no PEM certificate"):
            renew_context(context, *old)
        assert (await before.ask(get("/"))).status == 200  # a bad file changes nothing
        renew_context(context, *new)
        after = await connect(served.port, new[0])
        served.clients.append(after)
        for client in (before, after):
            assert (await client.ask(get("/"))).status == 200
