"""TLS for the public port: the server context, and a codec without I/O so that direct sends work."""

import ssl
from contextlib import suppress
from pathlib import Path

from appliance.core.errors import UsageError

_READ = 64 * 1024


def server_context(cert_path: str | None, key_path: str | None) -> ssl.SSLContext | None:
    """The context for a PEM chain and key; None when neither is given. Raises `UsageError` that names the bad file."""
    if not cert_path and not key_path:
        return None
    if not cert_path or not key_path:
        raise UsageError("cannot serve HTTPS: --tls-cert-path and --tls-key-path must be given together")
    for flag, path in (("--tls-cert-path", cert_path), ("--tls-key-path", key_path)):
        _check_readable(flag, path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    try:
        context.load_cert_chain(cert_path, key_path, password=_refuse_password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise UsageError(f"cannot serve HTTPS: the key {key_path} does not belong to {cert_path}") from None
        raise UsageError(f"cannot serve HTTPS: {cert_path} and {key_path} are no PEM certificate and key") from None
    return context


def renew_context(context: ssl.SSLContext, cert_path: str, key_path: str) -> None:
    """Serve new connections with the files as they are now; running ones keep theirs. Raises like `server_context`."""
    server_context(cert_path, key_path)  # complains before the context in use is touched
    context.load_cert_chain(cert_path, key_path, password=_refuse_password)


def _check_readable(flag: str, path: str) -> None:
    try:
        Path(path).read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {path} ({flag}): {error.strerror}") from None


def _refuse_password() -> str:
    raise UsageError("cannot serve HTTPS: the key is encrypted; give one without a password")


class TlsCodec:
    """One server-side TLS session over memory buffers. `ssl.SSLError` from any method ends the connection."""

    __slots__ = ("_in", "_out", "_session", "ended")

    def __init__(self, context: ssl.SSLContext) -> None:
        self._in = ssl.MemoryBIO()
        self._out = ssl.MemoryBIO()
        self._session = context.wrap_bio(self._in, self._out, server_side=True)
        self.ended = False
        """The client said that nothing more will come."""

    def shake_hands(self, data: bytes) -> bool:
        """Take bytes of the handshake; true when it is done. `outgoing` then has the answer, also after an error."""
        self._in.write(data)
        try:
            self._session.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def encrypt(self, data: bytes) -> bytes:
        """Plain bytes to bytes for the socket."""
        view = memoryview(data)
        while view:
            view = view[self._session.write(view) :]
        return self._out.read()

    def decrypt(self, data: bytes) -> bytes:
        """Bytes of the socket to plain bytes, maybe none yet."""
        self._in.write(data)
        parts = []
        try:
            while part := self._session.read(_READ):
                parts.append(part)
            self.ended = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.ended = True
        return b"".join(parts)

    def outgoing(self) -> bytes:
        """What the session itself wants to send."""
        return self._out.read()

    def goodbye(self) -> bytes:
        """The notice that we send nothing more."""
        # It would wait for the client's notice, which we do not need; ours is in the buffer.
        with suppress(ssl.SSLError, ValueError):
            self._session.unwrap()
        return self._out.read()
