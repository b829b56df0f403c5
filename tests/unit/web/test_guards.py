"""Keys, Host and Origin rules, CORS, and the bind check."""

import pytest

from appliance.core.errors import Forbidden, Unauthorized, UsageError
from appliance.core.settings import HttpSettings
from appliance.web.guards import AccessRules, KeyRing, check_bind, hash_key, host_of, is_loopback
from appliance.web.request import HttpRequest

KEYS = KeyRing([hash_key("sk-one"), hash_key("sk-two").upper()])


class Recorder:
    """As much of an exchange as the rules use."""

    def __init__(self, request: HttpRequest) -> None:
        self.request = request
        self.extra_headers = b""
        self.answered: tuple[int, dict[str, str]] | None = None

    def respond(self, status: int, body: bytes, headers: list[tuple[str, str]]) -> None:
        assert body == b""
        self.answered = status, dict(headers)


def ask(rules: AccessRules, path: str = "/v1/models", method: str = "GET", **headers: str) -> tuple[bool, Recorder]:
    lines = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
    exchange = Recorder(HttpRequest(method, path, headers=lines))
    return rules(exchange), exchange  # type: ignore[arg-type]  # a stand-in


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": "Bearer sk-one"},
        {"authorization": "bearer  sk-two"},
        {"x_api_key": "sk-two"},
        {"authorization": "Basic zzz", "x_api_key": "sk-one"},
    ],
)
def test_valid_keys_pass(headers: dict[str, str]) -> None:
    assert ask(AccessRules(keys=KEYS), **headers)[0]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer sk-three"},
        {"authorization": "Bearer "},
        {"authorization": "sk-one"},
        {"x_api_key": ""},
        {"x_api_key": hash_key("sk-one")},
    ],
)
def test_wrong_keys_are_refused(headers: dict[str, str]) -> None:
    with pytest.raises(Unauthorized):
        ask(AccessRules(keys=KEYS), **headers)


@pytest.mark.parametrize(
    ("method", "path", "is_open"),
    [
        ("GET", "/live", True),
        ("GET", "/health", True),
        ("GET", "/", True),
        ("HEAD", "/docs", True),
        ("GET", "/static/app.js", True),
        ("POST", "/", False),
        ("GET", "/metrics", False),
        ("GET", "/health/x", False),
        ("GET", "//live", False),
        ("GET", "/v1/models", False),
        ("GET", "/openapi.json", False),
    ],
)
def test_paths_open_without_a_key(method: str, path: str, is_open: bool) -> None:
    rules = AccessRules(keys=KEYS, loopback=False)
    if is_open:
        assert ask(rules, path, method)[0]
    else:
        with pytest.raises(Unauthorized):
            ask(rules, path, method)


@pytest.mark.parametrize(
    "host",
    ["localhost", "localhost:8000", "127.0.0.1:8000", "127.9.9.9", "[::1]", "[::1]:80", "LocalHost.", "a.localhost"],
)
def test_local_hosts_pass_without_keys(host: str) -> None:
    assert ask(AccessRules(), host=host)[0]


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example:8000",
        "127.0.0.1@evil",
        "10.0.0.1",
        "0.0.0.0",
        "",
        "[::2]",
    ],
)
@pytest.mark.parametrize("path", ["/v1/models", "/health", "/"])
def test_rebinding_hosts_are_refused_without_keys(host: str, path: str) -> None:
    with pytest.raises(Forbidden):
        ask(AccessRules(), path, host=host)


def test_hosts_do_not_matter_with_keys_or_outside_loopback() -> None:
    assert ask(AccessRules(keys=KEYS), host="box.example", x_api_key="sk-one")[0]
    assert ask(AccessRules(loopback=False), host="box.example")[0]


@pytest.mark.parametrize(
    ("origin", "passes"),
    [
        ("http://localhost:8000", True),
        ("https://evil.example", False),
        ("http://localhost:3000", False),
        ("http://localhost:8000.evil.example", False),
        ("null", False),
        ("", False),
    ],
)
@pytest.mark.parametrize("loopback", [True, False])
def test_foreign_origins_are_refused_without_keys(origin: str, passes: bool, loopback: bool) -> None:
    rules = AccessRules(loopback=loopback)
    if passes:
        assert ask(rules, host="localhost:8000", origin=origin)[0]
    else:
        with pytest.raises(Forbidden):
            ask(rules, host="localhost:8000", origin=origin)


def test_allowed_origin_gets_cors_headers_and_preflight() -> None:
    rules = AccessRules(keys=KEYS, cors_origins=("https://app.example",))
    passed, exchange = ask(rules, origin="https://app.example", x_api_key="sk-one")
    assert passed
    assert b"access-control-allow-origin: https://app.example\r\n" in exchange.extra_headers
    assert b"vary: origin" in exchange.extra_headers
    passed, exchange = ask(
        rules,
        method="OPTIONS",
        origin="https://app.example",
        access_control_request_method="POST",
        access_control_request_headers="authorization",
    )
    assert not passed
    assert exchange.answered is not None
    status, headers = exchange.answered
    assert status == 204
    assert headers["access-control-allow-headers"] == "authorization"


def test_other_origins_get_no_cors_headers_and_no_preflight() -> None:
    rules = AccessRules(keys=KEYS, cors_origins=("https://app.example",))
    _, exchange = ask(rules, origin="https://other.example", x_api_key="sk-one")
    assert exchange.extra_headers == b""
    with pytest.raises(Unauthorized):
        ask(rules, method="OPTIONS", origin="https://other.example", access_control_request_method="POST")


def test_star_allows_every_origin() -> None:
    _, exchange = ask(AccessRules(cors_origins=("*",)), host="localhost", origin="https://any.example")
    assert b"access-control-allow-origin: *\r\n" in exchange.extra_headers


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("box", False),
        ("", False),
    ],
)
def test_bind_outside_loopback_needs_a_key(host: str, loopback: bool) -> None:
    settings = HttpSettings(host=host)
    assert is_loopback(host) is loopback
    if loopback:
        check_bind(settings, has_keys=False)
    else:
        with pytest.raises(UsageError, match="keys create"):
            check_bind(settings, has_keys=False)
    check_bind(settings, has_keys=True)
    check_bind(HttpSettings(host=host, insecure_no_auth=True), has_keys=False)


def test_host_of() -> None:
    assert [host_of(text) for text in ("A:1", "a", "[::1]:8", "[FE80::1]")] == ["a", "a", "::1", "fe80::1"]
