"""The web console's files and API: what is open, what is refused, and what the files must not do."""

import re
from pathlib import Path

import pytest
from quart.typing import TestClientProtocol as Client

from appliance.core.settings import PathSettings
from appliance.frontend.control.console_app import ACTION_HEADER, API
from appliance.frontend.control.console_files import FOLDER, read_console_files
from appliance.frontend.control.public_app import build_public_app
from tests.fakes.console import FakeConsole
from tests.fakes.control import FakeView

MOST_BYTES = 150_000
OURS = {ACTION_HEADER: "1"}
FILES = sorted(path for path in FOLDER.iterdir() if path.suffix in (".html", ".js", ".css", ".svg"))


@pytest.fixture
def console() -> FakeConsole:
    return FakeConsole()


@pytest.fixture
def client(console: FakeConsole) -> Client:
    return build_public_app(FakeView(), PathSettings(chat="/chat"), console).test_client()


async def test_the_page_and_its_files_are_served_with_policy_and_validator(client: Client) -> None:
    answer = await client.get("/")
    assert answer.content_type == "text/html; charset=utf-8"
    assert answer.headers["content-security-policy"].startswith("default-src 'self';")
    assert "unsafe" not in answer.headers["content-security-policy"]
    page = str(await answer.get_data(as_text=True))
    for address in re.findall(r'(?:src|href)="(/static/[^"]+)"', page):
        found = await client.get(address)
        assert found.status_code == 200
        again = await client.get(address, headers={"if-none-match": found.headers["etag"]})
        assert (again.status_code, await again.get_data()) == (304, b"")
        other = await client.get(address, headers={"if-none-match": '"other"'})
        assert other.status_code == 200


async def test_the_pages_are_told_where_the_routes_are(client: Client) -> None:
    answer = await client.get("/static/console/paths.js")
    assert answer.content_type == "text/javascript; charset=utf-8"
    assert '"chat":"/chat"' in str(await answer.get_data(as_text=True))


@pytest.mark.parametrize("name", ["none.js", "DESIGN.md", "..%2fpages.py", "%2e%2e/pages.py", "../pages.py", ""])
async def test_nothing_else_is_served(client: Client, name: str) -> None:
    assert (await client.get("/static/console/" + name)).status_code == 404


async def test_reads(client: Client, console: FakeConsole) -> None:
    for path in ("status", "requests", "events", "events?subject=x&limit=3", "load?since=12.5", "why?subject=r"):
        answer = await client.get(API + path)
        assert answer.status_code == 200
        assert answer.headers["cache-control"] == "no-store"
    answer = await client.get(API + "logs?component=worker&after=7&lines=9")
    assert (await answer.get_json())["lines"][0]["text"] == "hello"
    assert console.asked == [("events", None, 50), ("events", "x", 3), ("load", 12.5), ("why", "r", 50), ("logs", 7, 9)]


@pytest.mark.parametrize(
    ("path", "status", "param"),
    [
        ("why", 400, "subject"),
        ("logs", 400, "component"),
        ("logs?component=none", 404, None),
        ("logs?component=worker&lines=0", 400, "lines"),
        ("logs?component=worker&after=nan", 400, "after"),
        ("load?since=soon", 400, "since"),
        ("load?since=inf", 400, "since"),
        ("events?limit=1001", 400, "limit"),
        ("none", 404, None),
    ],
)
async def test_wrong_reads(client: Client, path: str, status: int, param: str | None) -> None:
    answer = await client.get(API + path)
    assert answer.status_code == status
    assert (await answer.get_json())["error"]["param"] == param


async def test_actions(client: Client, console: FakeConsole) -> None:
    answer = await client.post(API + "scale", json={"component": "c", "replicas": 2}, headers=OURS)
    assert answer.status_code == 200
    answer = await client.post(API + "restart", json={"worker": "w"}, headers=OURS)
    assert answer.status_code == 202
    answer = await client.post(API + "restart", json={"worker": "other"}, headers=OURS)
    assert answer.status_code == 404
    assert console.asked == [("scale", "c", 2, None), ("restart", "w")]


async def test_models_are_loaded_and_unloaded(client: Client, console: FakeConsole) -> None:
    for act in ("load_model", "unload_model"):
        answer = await client.post(API + act, json={"model": "m"}, headers=OURS)
        assert (answer.status_code, (await answer.get_json())["name"]) == (202, "m")
        assert (await client.post(API + act, json={"model": "m"})).status_code == 403, "not for other pages"
        assert (await client.post(API + act, json={"name": "m"}, headers=OURS)).status_code == 400
    refused = await client.post(API + "unload_model", json={"model": "pinned"}, headers=OURS)
    assert (refused.status_code, (await refused.get_json())["error"]["message"]) == (
        409,
        "cannot unload pinned: it is pinned",
    )
    assert console.asked == [("load_model", "m"), ("unload_model", "m")]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        OURS | {"origin": "http://evil.example"},
        OURS | {"origin": "null"},
        OURS | {"origin": "http://localhost.evil"},
    ],
)
async def test_only_our_own_pages_may_act(client: Client, console: FakeConsole, headers: dict[str, str]) -> None:
    answer = await client.post(API + "restart", json={"worker": "w"}, headers=headers)
    assert answer.status_code == 403
    assert console.asked == []


async def test_an_action_from_our_own_origin(client: Client) -> None:
    headers = OURS | {"origin": "http://localhost"}  # what the test client calls itself
    assert (await client.post(API + "restart", json={"worker": "w"}, headers=headers)).status_code == 202


async def test_where_nobody_needs_a_key_nobody_acts(client: Client, console: FakeConsole) -> None:
    console.open = False
    answer = await client.post(API + "restart", json={"worker": "w"}, headers=OURS)
    assert answer.status_code == 403
    assert "keys create" in (await answer.get_json())["error"]["message"]


async def test_without_a_console_service_the_pages_stay() -> None:
    client = build_public_app(FakeView()).test_client()
    assert (await client.get("/")).status_code == 200
    assert (await client.get(API + "status")).status_code == 404


def test_the_files_are_small() -> None:
    assert sum(len(file.body) for file in read_console_files().values()) < MOST_BYTES


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_file_loads_nothing_from_elsewhere_and_reads_nothing_as_html(path: Path) -> None:
    text = path.read_text().replace('xmlns="http://www.w3.org/2000/svg"', "").replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"https?://[a-z]", text)
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|\bon\w+=\"", text
    )


@pytest.mark.parametrize("path", [path for path in FILES if path.suffix == ".js"], ids=lambda path: path.name)
def test_what_a_module_imports_is_there_and_exported(path: Path) -> None:
    for names, file in re.findall(r"import (?:\* as \w+|\{([^}]+)\}) from \"\./([^\"]+)\"", path.read_text()):
        if file == "paths.js":
            continue
        exported = (FOLDER / file).read_text()
        for name in filter(None, (name.strip() for name in names.split(","))):
            assert re.search(
                rf"export (?:async )?(?:function\*?|const|class) {name}\b|export {{[^}}]*\b{name}\b", exported
            ), name
