"""A chat over the public HTTP port: the conversation so far, and answers as they come."""

import contextlib
import http.client
import json
import os
import ssl
from collections.abc import Generator, Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from appliance.cli.admin_client import AdminClient
from appliance.core.errors import ApplianceError, ModelNotFound, NotRunning
from appliance.core.settings import PathSettings

SILENCE_S = 600.0  # a cold model loads before the first token comes


class ChatClient:
    """One conversation. An answer that was broken off is kept as far as it came."""

    def __init__(
        self,
        url: str,
        model: str,
        *,
        key: str | None,
        cafile: str | None,
        system: str | None,
        path: str = PathSettings.chat,
    ) -> None:
        self.model = model
        self._url, self._path = urlsplit(url), path
        self._key, self._cafile = key, cafile
        self._start = [{"role": "system", "content": system}] if system else []
        self._messages = list(self._start)
        self._options: dict[str, Any] = {}

    def set_options(self, options: Mapping[str, Any]) -> None:
        """Members of the request body; None leaves the choice to the server."""
        self._options = {name: value for name, value in options.items() if value is not None}

    def forget(self) -> None:
        """Begin the conversation anew."""
        self._messages = list(self._start)

    def ask(self, text: str) -> Generator[str]:
        """Say something; pieces of the answer. Closing the generator cancels the answer on the server.

        Raises what the server refused, or `NotRunning` when the connection broke.
        """
        self._messages.append({"role": "user", "content": text})
        answer = ""
        try:
            for piece in self._stream():
                answer += piece
                yield piece
        finally:
            if answer:
                self._messages.append({"role": "assistant", "content": answer})
            else:
                self._messages.pop()

    def _stream(self) -> Iterator[str]:
        body = {"model": self.model, "messages": self._messages, "stream": True, **self._options}
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {self._key}"} if self._key else {})
        connection = self._connection()
        try:
            connection.request("POST", self._path, json.dumps(body), headers)
            response = connection.getresponse()
            if response.status != 200:
                raise ApplianceError(_message(response.read(), response.status))
            yield from _pieces(response)
        except (OSError, http.client.HTTPException) as error:
            raise NotRunning(f"the connection to {self._url.netloc} broke: {error}") from None
        finally:
            connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        host, port = self._url.hostname or "127.0.0.1", self._url.port
        if self._url.scheme != "https":
            return http.client.HTTPConnection(host, port, timeout=SILENCE_S)
        context = ssl.create_default_context(cafile=self._cafile)
        context.check_hostname = False  # it is our own certificate, on our own address
        return http.client.HTTPSConnection(host, port, timeout=SILENCE_S, context=context)


@contextlib.contextmanager
def open_chat(
    admin: AdminClient, model: str | None, *, system: str | None, options: Mapping[str, Any]
) -> Iterator[ChatClient]:
    """A conversation with a model of this appliance (None: its first ready one), with a key of its own if it needs one.

    Raises `ModelNotFound` when it serves no such model.
    """
    status, config = admin.get("status"), admin.get("config")
    settings = config["http"]
    with _own_key(admin, needed=bool(settings["api_key_file"] or admin.get("keys")["items"])) as key:
        client = ChatClient(
            _reachable(status["url"]),
            _choose(status["models"], model),
            key=key,
            cafile=settings["tls_cert_path"],
            system=system,
            path=config["paths"]["chat"],
        )
        client.set_options(options)
        yield client


@contextlib.contextmanager
def _own_key(admin: AdminClient, *, needed: bool) -> Iterator[str | None]:
    """A key for the time of the chat: whoever may use the admin socket may make one."""
    if not needed:
        yield None
        return
    name = f"chat-{os.getpid()}"
    key: str = admin.post("keys", body={"name": name})["key"]
    try:
        yield key
    finally:
        with contextlib.suppress(NotRunning):  # stopped meanwhile: the key was shown to nobody
            admin.delete("keys", name)


def _choose(models: list[dict[str, Any]], wanted: str | None) -> str:
    names: list[str] = [one["name"] for one in sorted(models, key=lambda one: bool(one["phase"] != "ready"))]
    if wanted in names:
        return str(wanted)
    if wanted is None and names:
        return names[0]
    known = f"it serves {', '.join(names)}" if names else "it serves none"
    raise ModelNotFound(
        f"the appliance has no model {wanted!r}; {known}" if wanted else "the appliance serves no model"
    )


def _reachable(url: str) -> str:
    """The URL with an address that a client on this machine can use."""
    return url.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")


def _pieces(lines: Iterator[bytes] | http.client.HTTPResponse) -> Iterator[str]:
    """Text of the events of a chat completion stream, reasoning left out."""
    for line in lines:
        data = line.strip()
        if not data.startswith(b"data: ") or data == b"data: [DONE]":
            continue
        event = json.loads(data.removeprefix(b"data: "))
        if "error" in event:
            raise ApplianceError(str(event["error"].get("message", "the answer broke off")))
        for choice in event.get("choices", []):
            if content := choice["delta"].get("content"):
                yield content


def _message(body: bytes, status: int) -> str:
    try:
        return str(json.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"the appliance refused with HTTP status {status}"
