"""Client of the admin API: HTTP over the appliance's unix socket, blocking, standard library only."""

import http.client
import json
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from appliance.core.errors import ApplianceError, Conflict, NotFound, NotRunning, Unprocessable
from appliance.core.paths import APP, Paths, resolve_paths

BLOCK = 1 << 18
ANSWER_S = 30.0  # the slowest answers pull metrics from children, which have seconds
PACKAGED_RUN_DIR = Path("/run") / APP

ERRORS: dict[int, type[ApplianceError]] = {404: NotFound, 409: Conflict, 422: Unprocessable}


class AdminClient:
    """One appliance's admin API. Methods raise `NotRunning` when nobody answers, and what the appliance refused."""

    def __init__(self, socket_path: Path) -> None:
        self.socket_path = socket_path

    @classmethod
    def find(cls, paths: Paths, environ: Mapping[str, str]) -> "AdminClient":
        """The client of the appliance on this state dir: its socket may lie where another environment has put it."""
        plain = {name: value for name, value in environ.items() if name not in ("XDG_RUNTIME_DIR", "RUNTIME_DIRECTORY")}
        candidates = [paths.admin_socket, resolve_paths(str(paths.state_dir), plain).admin_socket]
        if str(paths.state_dir) == str(resolve_paths(None, environ).state_dir):
            candidates.append(PACKAGED_RUN_DIR / "admin.sock")
        return cls(next((path for path in candidates if _exists(path)), candidates[0]))

    def get(self, *path: str, **query: str | int | None) -> Any:
        """GET a resource; path parts are quoted, None queries left out."""
        return self._call("GET", path, query=query)

    def put(self, *path: str, body: Any) -> Any:
        """PUT a JSON body."""
        return self._call("PUT", path, body=body)

    def post(self, *path: str, body: Any = None) -> Any:
        """POST a JSON body."""
        return self._call("POST", path, body=body)

    def patch(self, *path: str, body: Any) -> Any:
        """PATCH a resource with a JSON body."""
        return self._call("PATCH", path, body=body)

    def delete(self, *path: str) -> Any:
        """DELETE a resource."""
        return self._call("DELETE", path)

    def blocks(self, *path: str, **query: str | int | None) -> Iterator[bytes]:
        """A streamed answer as it comes. Raises `NotRunning` when it breaks off before its end."""
        with _Connection(self.socket_path, timeout=ANSWER_S) as connection:
            answer = connection.ask("GET", _target(path, query))
            connection.patient()  # packing a large file may take longer than an answer
            _raise_refusal(answer.status, b"" if answer.status < 400 else answer.read())
            try:
                while block := answer.read1(BLOCK):
                    yield block
            except (OSError, http.client.HTTPException):
                raise NotRunning(
                    "the answer broke off before its end; `dynamo-appliance logs supervisor` says why, if it still runs"
                ) from None

    def lines(self, *path: str, **query: str | int | None) -> Iterator[str]:
        """Text lines of a streamed answer, until its end."""
        # No deadline for the lines: a user who follows a log waits until Ctrl-C.
        with _Connection(self.socket_path, timeout=ANSWER_S) as connection:
            answer = connection.ask("GET", _target(path, query))
            connection.patient()
            _raise_refusal(answer.status, b"" if answer.status < 400 else answer.read())
            for line in answer:
                yield line.decode(errors="replace").rstrip("\n")

    def _call(
        self,
        method: str,
        path: tuple[str, ...],
        *,
        body: Any = None,
        query: Mapping[str, str | int | None] | None = None,
    ) -> Any:
        with _Connection(self.socket_path, timeout=ANSWER_S) as connection:
            answer = connection.ask(method, _target(path, query or {}), body)
            content = answer.read()
            _raise_refusal(answer.status, content)
        return json.loads(content) if content.strip() else None


class _Connection(http.client.HTTPConnection):
    """HTTP over a unix socket; the connection's end and the appliance's are told apart from refusals."""

    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))

    def ask(self, method: str, target: str, body: Any = None) -> http.client.HTTPResponse:
        headers = {"Content-Type": "application/json"} if body is not None else {}
        try:
            self.request(method, target, None if body is None else json.dumps(body), headers)
            return self.getresponse()
        except (FileNotFoundError, ConnectionRefusedError):
            raise NotRunning("no appliance is running here; start one with: dynamo-appliance serve") from None
        except PermissionError:
            raise NotRunning(
                f"not allowed to talk to the appliance at {self._path}; join its group or become its user"
            ) from None
        except TimeoutError:
            raise NotRunning(f"the appliance at {self._path} did not answer within {self.timeout:.0f} s") from None
        except (OSError, http.client.HTTPException) as error:
            raise NotRunning(f"the appliance at {self._path} went away: {error}") from None

    def patient(self) -> None:
        """Wait for the rest of the answer as long as it takes."""
        if self.sock is not None:
            self.sock.settimeout(None)

    def __enter__(self) -> "_Connection":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except PermissionError:  # a folder that we may not enter: trying to connect says so
        return True
    except OSError:
        return False


def _target(path: tuple[str, ...], query: Mapping[str, str | int | None]) -> str:
    given = {name: value for name, value in query.items() if value is not None}
    text = "/" + "/".join(quote(part, safe="") for part in path)
    return f"{text}?{urlencode(given)}" if given else text


def _raise_refusal(status: int, content: bytes) -> None:
    if status < 400:
        return
    try:
        message = str(json.loads(content)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        message = f"the appliance refused with HTTP status {status}"
    raise ERRORS.get(status, ApplianceError)(message)
