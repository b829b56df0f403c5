"""Cache events end to end: what one worker has cached decides where the next turn of a conversation goes."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.appliance_process import Appliance, appliance

STORIES = ("the sea and the wind", "a lamp in the night", "seven ships of wood")


@pytest.fixture(scope="module")
def two_workers(binary: str | None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Appliance]:
    folder: Path = tmp_path_factory.mktemp("cache") / "state"
    with appliance(binary, folder, "--router-mode", "kv", "--replicas", "2") as one:
        yield one


def cached_tokens(one: Appliance, prompt: str) -> int:
    answer = one.chat(one.models[0], prompt, max_tokens=4)
    count: int = answer["usage"]["prompt_tokens_details"]["cached_tokens"]
    return count


def test_a_longer_prompt_goes_where_its_beginning_is(two_workers: Appliance) -> None:
    for story in STORIES:
        prompt = f"Tell me more of {story}. " * 12
        assert cached_tokens(two_workers, prompt) < 64
        for turn in range(3):
            prompt += f"And then, {turn}?"
            assert cached_tokens(two_workers, prompt) >= 64
