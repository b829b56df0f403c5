"""The web console in a real browser: headless Chromium over a running appliance."""

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.e2e.appliance_process import Appliance, appliance, eventually
from tests.e2e.test_sleep import model
from tests.helpers.graphs import graph, worker

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
WAIT_MS = 20_000  # for what the page shows next; the machines that run this are slow and shared
MOCKER = ("--engine", "mocker", "--engine-arg", "step_ms=40", "--engine-arg", "startup_ms=1500", "mock")
PAGES = ("overview", "chat", "models", "requests", "logs", "settings")
WORKER_STATE = "[data-worker] .state"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("chromium is not installed; the browser tests need it (apt install chromium)")
    expect.set_options(timeout=WAIT_MS)
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM)
        yield found
        found.close()


@pytest.fixture(scope="module")
def one(binary: str | None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Appliance]:
    """Its model is slow enough to be watched."""
    with appliance(binary, tmp_path_factory.mktemp("console") / "state", *MOCKER) as found:
        yield found


@pytest.fixture
def pictures(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Where screenshots go: `--screenshots DIR`, else a folder of this test."""
    folder = Path(request.config.getoption("--screenshots") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def opened(browser: Browser, url: str, *, complaints: str = "", **options: object) -> Iterator[Page]:
    """A page of a fresh browser; fails for errors that it logged other than `complaints`, and for foreign requests."""
    context = browser.new_context(**options)  # type: ignore[arg-type]  # options of the browser's own
    context.set_default_timeout(WAIT_MS)
    page = context.new_page()
    errors: list[str] = []
    requests: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if message.type in ("error", "warning") else None)
    page.on("request", lambda request: requests.append(request.url))
    try:
        page.goto(url)
        yield page
    finally:
        context.close()
    assert [error for error in errors if not (complaints and complaints in error)] == []
    assert [address for address in requests if not address.startswith(url)] == []


def go(page: Page, name: str) -> None:
    """Follow the link of a page."""
    page.get_by_role("navigation").get_by_role("link", name=name.capitalize()).click()
    expect(page.locator("main")).to_have_attribute("data-page", name)


@pytest.mark.parametrize(
    ("scheme", "width"), [("light", 1280), ("dark", 1280), ("light", 360)], ids=["light", "dark", "narrow"]
)
def test_every_page_shows_itself(browser: Browser, one: Appliance, pictures: Path, scheme: str, width: int) -> None:
    one.chat("mock", "hello", max_tokens=2)
    view = {"width": width, "height": 800}
    with opened(browser, one.url, color_scheme=scheme, viewport=view) as page:
        expect(page.locator("#state")).to_have_text("ready")
        shown = {"overview": ".node", "chat": ".composer", "models": ".card", "requests": "tbody tr", "logs": ".line"}
        for name in PAGES:
            go(page, name)
            page.locator(shown.get(name, ".card")).first.wait_for()
            page.screenshot(path=pictures / f"console-{name}-{scheme}-{width}.png")
            assert page.evaluate("document.documentElement.scrollWidth") <= width, f"{name} is wider than the window"
        ground = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
        assert (sum(map(int, re.findall(r"\d+", ground)[:3])) < 200) == (scheme == "dark")


def test_chat_streams_and_its_request_is_explained(browser: Browser, one: Appliance) -> None:
    with opened(browser, one.url) as page:
        go(page, "chat")
        page.get_by_text("Parameters").click()
        page.get_by_label("Most tokens").fill("40")
        page.get_by_label("Message").fill("Tell me <b>something</b>")
        page.keyboard.press("Enter")
        answer = page.locator(".message.assistant .text")
        lengths = sorted(growing(answer.last.inner_text, 4))
        assert lengths[0] < lengths[-1]
        assert page.get_by_role("button", name="Stop").is_visible(), "it was seen while it grew"
        page.get_by_role("button", name="Send").wait_for()
        expect(page.locator(".message.user .text")).to_have_text("Tell me <b>something</b>")
        expect(page.locator(".message.assistant footer")).to_contain_text(
            re.compile(r"first token .*40 tokens.*tokens/s")
        )
        expect(page.locator(".message.assistant footer")).to_contain_text("ended: length")
        page.reload()
        expect(page.locator(".message")).to_have_count(2)
        page.get_by_role("link", name="Why").click()
        detail = page.locator("tr.detail")
        expect(detail).to_contain_text("first token after")
        expect(detail.locator(".placement")).to_contain_text("chosen")
        expect(detail.locator(".events")).to_contain_text("it serves")


def growing(text: object, states: int) -> set[int]:
    """Lengths that a text was seen with, until there are so many."""
    seen: set[int] = set()

    def look() -> bool:
        assert callable(text)
        seen.add(len(text()))
        return len(seen) >= states

    eventually(look, timeout=10, every=0.02)
    return seen


def test_an_answer_can_be_stopped_and_errors_stand_in_place(browser: Browser, one: Appliance) -> None:
    with opened(browser, one.url, complaints="400") as page:
        go(page, "chat")
        page.get_by_label("Message").fill("Go on for ever")
        page.keyboard.press("Enter")
        growing(page.locator(".message.assistant .text").last.inner_text, 2)
        page.keyboard.press("Escape")
        expect(page.locator(".message.assistant footer")).to_contain_text("stopped")
        eventually(lambda: not one.status()["active_requests"])
        page.get_by_label("Message").fill("much more than fits " * 4000)
        page.keyboard.press("Enter")
        expect(page.locator(".message.assistant .error")).to_contain_text("context")


def test_a_worker_dies_and_comes_back(browser: Browser, one: Appliance) -> None:
    with opened(browser, one.url) as page:
        worker = page.locator("li[data-worker]")
        expect(worker.locator(".state")).to_have_text("ready")
        before = worker.get_attribute("data-worker")
        one.workers()[0].kill()
        expect(worker.locator(".state")).to_have_text(re.compile("starting|backoff"))
        expect(page.locator("#live")).to_contain_text(re.compile("is (starting|backoff)"))
        expect(worker.locator(".state")).to_have_text("ready")
        assert worker.get_attribute("data-worker") != before
        expect(worker).to_contain_text("restart")
        expect(page.locator(".events")).to_contain_text("crash")
        expect(page.locator(".events")).to_contain_text("SIGKILL")


def test_scaling_and_restarting_by_hand(browser: Browser, one: Appliance) -> None:
    with opened(browser, one.url) as page:
        workers = page.locator("li[data-worker]")
        page.get_by_role("button", name=re.compile("One worker more")).click()
        expect(workers).to_have_count(2)
        page.get_by_role("button", name=re.compile("One worker less")).click()
        expect(workers).to_have_count(1)
        eventually(lambda: [one["phase"] for one in one.status()["workers"]] == ["ready"])
        before = str(workers.get_attribute("data-worker"))
        page.get_by_role("button", name=f"Restart {before}").click()
        page.get_by_role("dialog").get_by_role("button", name="Restart").click()
        eventually(lambda: [w["phase"] for w in one.status()["workers"] if w["id"] != before] == ["ready"])
        expect(page.locator(f"li[data-worker='{before}']")).to_have_count(0)


def test_a_model_is_unloaded_and_loaded_again(browser: Browser, one: Appliance, pictures: Path) -> None:
    with opened(browser, one.url, color_scheme="dark", viewport={"width": 1280, "height": 800}) as page:
        go(page, "models")
        card = page.locator(".card[data-key=mock]")
        card.get_by_role("button", name="Unload").focus()
        page.keyboard.press("Enter")
        expect(card.locator(".state")).to_have_text("cold")
        expect(card).to_contain_text("0 of 1 ready")
        expect(page.get_by_role("dialog")).to_have_count(0)
        assert [model["phase"] for model in one.status()["models"]] == ["cold"]
        page.screenshot(path=pictures / "console-unloaded.png")
        expect(card.get_by_role("button", name="Load", exact=True)).to_be_focused()
        page.keyboard.press("Enter")
        expect(card.locator(".state")).to_have_text("starting")
        expect(card.get_by_role("progressbar")).to_be_visible()
        page.screenshot(path=pictures / "console-loading.png")
        expect(card.locator(".state")).to_have_text("ready")
        expect(card.get_by_role("progressbar")).to_have_count(0)
        expect(card.get_by_role("button", name="Unload")).to_be_enabled()
    reasons = [row["reason"] for row in json.loads(one.cli("why", "model/mock", "--json"))]
    assert reasons.count("asked for by a user") == 2


def test_models_that_sleep_are_woken_and_pinned_ones_stay(
    browser: Browser, binary: str | None, tmp_path: Path, pictures: Path
) -> None:
    sleeper = model("sleeper", tmp_path / "state", **{"dynamo-appliance/idle-s": "3"})
    pinned = worker("pinned", ["worker", "--engine", "mocker", "--model", "m", "--served-model-name", "pinned"])
    pinned["podTemplate"]["metadata"] = {"annotations": {"dynamo-appliance/pinned": "true"}}
    manifest = tmp_path / "two.yaml"
    manifest.write_text(yaml.safe_dump(graph({"name": "frontend", "type": "frontend"}, sleeper, pinned, name="two")))
    settings = {"APPLIANCE_RESIDENCY_MIN_RESIDENCE_S": "0.2", "APPLIANCE_RESIDENCY_SLEEP_LEVEL": "1"}
    with (
        appliance(binary, tmp_path / "state", "-f", str(manifest), environ=settings) as one,
        opened(browser, one.url, complaints="409", viewport={"width": 1280, "height": 800}) as page,
    ):
        rows = page.locator("[data-node='c:two/sleeper'] li")
        expect(rows.locator(".state")).to_have_text("sleeping")
        expect(rows).to_contain_text(re.compile(r"for \d+s"))
        page.screenshot(path=pictures / "console-sleeping-overview.png")
        go(page, "models")
        card = page.locator(".card[data-key=sleeper]")
        expect(card.locator(".state")).to_have_text("asleep")
        expect(card.get_by_role("button")).to_have_text(["Wake", "Unload", "Stop"])
        page.screenshot(path=pictures / "console-sleeping.png")
        card.get_by_role("button", name="Wake").click()
        expect(card.locator(".state")).to_have_text("ready")
        page.locator(".card[data-key=pinned]").get_by_role("button", name="Unload").click()
        expect(page.locator("#notice")).to_have_text("cannot unload pinned: it is pinned")
        page.screenshot(path=pictures / "console-pinned.png")
        expect(page.locator(".card[data-key=pinned] .state")).to_have_text("ready")


def test_by_keyboard_alone(browser: Browser, one: Appliance) -> None:
    with opened(browser, one.url) as page:
        expect(page.locator("#state")).to_have_text("ready")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        for key, name in (("c", "chat"), ("l", "logs"), ("o", "overview"), ("r", "requests")):
            page.evaluate("document.activeElement.blur()")
            page.keyboard.press("g")
            page.keyboard.press(key)
            expect(page.locator("main")).to_have_attribute("data-page", name)
        page.keyboard.press("/")
        assert page.evaluate("document.activeElement.type") == "search"
        page.evaluate("document.activeElement.blur()")
        page.keyboard.press("?")
        expect(page.get_by_role("dialog")).to_contain_text("Keyboard shortcuts")
        page.keyboard.press("Escape")
        expect(page.get_by_role("dialog")).to_have_count(0)
        page.keyboard.press("t")
        page.keyboard.press("t")
        expect(page.locator("html")).to_have_attribute("data-theme", "dark")
        page.reload()
        expect(page.locator("html")).to_have_attribute("data-theme", "dark")


def test_a_key_is_asked_for(browser: Browser, binary: str | None, tmp_path: Path) -> None:
    with appliance(binary, tmp_path / "state", "--engine", "mocker", "m") as one:
        key = json.loads(one.cli("keys", "create", "laptop", "--json"))["key"]
        with opened(browser, one.url, complaints="401") as page:
            dialog = page.get_by_role("dialog")
            expect(dialog).to_contain_text("API key")
            page.get_by_label("Key", exact=True).fill("wrong")
            page.keyboard.press("Enter")
            expect(dialog).to_contain_text("not known here")
            page.get_by_label("Key", exact=True).fill(key)
            page.keyboard.press("Enter")
            expect(page.locator(WORKER_STATE)).to_have_text("ready")
            expect(dialog).to_have_count(0)
            page.reload()
            expect(page.locator(WORKER_STATE)).to_have_text("ready")
            go(page, "chat")
            page.get_by_label("Message").fill("hello")
            page.keyboard.press("Enter")
            expect(page.locator(".message.assistant footer")).to_contain_text("first token")
