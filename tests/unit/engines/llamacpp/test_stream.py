"""What engine messages mean: message dictionaries as the engine sends them, steps out."""

from typing import Any

import pytest

from appliance.core.errors import EngineFailed, InvalidRequest
from appliance.engines.llamacpp.held_tokens import HeldTokens
from appliance.engines.llamacpp.stream import UNKNOWN_LOGPROB, CompletionStream, Step

PROMPT = [10, 11, 12]
PIECES = {"é": [(7, b"\xc3"), (8, b"\xa9")], "\ufffd": [(5, b"\xef\xbf"), (6, b"\xbd")]}


class Rig:
    """A stream with its steps laid out."""

    def __init__(self, stop_ids: frozenset[int] = frozenset(), logprobs: int | None = None) -> None:
        self.steps: list[Step] = []
        self.predicted = 0
        self.stream = CompletionStream(
            self.steps.append,
            prompt=PROMPT,
            stop_ids=stop_ids,
            logprobs=logprobs,
            held_tokens=HeldTokens(lambda text: PIECES[text]),
        )

    def progress(self, processed: int, cache: int = 0) -> bool:
        progress = {"total": 3, "cache": cache, "processed": processed}
        return self.say("", {"tokens": [0], "stop": False, "prompt_progress": progress})

    def token(self, token: int, text: str = "x", held_back: int = 0) -> bool:
        self.predicted += 1 + held_back
        verbose: dict[str, Any] = {"tokens": [token], "stop": False, "tokens_predicted": self.predicted}
        top = [{"id": token, "logprob": -0.5}, {"id": 1, "logprob": -2.0}]
        verbose["completion_probabilities"] = [{"logprob": -0.5, "top_logprobs": top}]
        return self.say(text, verbose)

    def end(self, why: str = "limit", cached: int = 4, slot: int = 2) -> bool:
        return self.say("", {"tokens": [], "stop": True, "stop_type": why, "tokens_cached": cached, "id_slot": slot})

    def say(self, text: str, verbose: dict[str, Any]) -> bool:
        return self.stream.on_message({"choices": [{"text": text}], "__verbose": verbose})

    @property
    def token_ids(self) -> list[int]:
        return [token for step in self.steps for token in step.token_ids]


def test_tokens_then_a_limit() -> None:
    rig = Rig()
    results = [rig.progress(0), rig.progress(3), rig.token(1), rig.token(2), rig.end()]
    assert results == [False] * 5
    assert rig.token_ids == [1, 2]
    assert rig.steps[-1].finish == rig.stream.finish == "length"
    assert rig.stream.slot_content == [*PROMPT, 1]
    assert rig.stream.ran_on == 2


def test_an_end_token_is_not_shown() -> None:
    rig = Rig(stop_ids=frozenset({9}))
    rig.token(1)
    rig.token(9, text="")
    rig.end("eos")
    assert rig.token_ids == [1]
    assert [step.finish for step in rig.steps] == [None, "stop"]


def test_an_end_token_that_only_the_engine_knows_is_not_shown_either() -> None:
    rig = Rig()
    rig.token(1)
    rig.token(9, text="")
    rig.end("eos")
    assert rig.token_ids == [1]
    assert rig.stream.finish == "stop"


def test_a_control_token_within_the_text_is_shown() -> None:
    rig = Rig()
    rig.token(9, text="")
    rig.token(1)
    rig.token(8, text="")
    rig.end("limit")
    assert rig.token_ids == [9, 1, 8]


def test_a_stop_id_ends_the_stream_and_then_the_call() -> None:
    rig = Rig(stop_ids=frozenset({5}))
    assert rig.token(5) is False
    assert rig.stream.finish == "stop"
    assert rig.token(6) is True
    assert rig.token_ids == []


def test_ids_that_were_held_back_are_found_again() -> None:
    rig = Rig(logprobs=1)
    rig.token(3)
    rig.token(8, text="é", held_back=1)
    assert rig.token_ids == [3, 7, 8]
    assert [entry.logprob for step in rig.steps for entry in step.logprobs] == [-0.5, UNKNOWN_LOGPROB, -0.5]
    assert rig.steps[-1].logprobs[-1].top == [(8, -0.5)]


def test_what_was_found_is_found_again_unchanged() -> None:
    held = HeldTokens(lambda text: PIECES[text])
    held.drawn(8, "é").append(1)  # steps are merged in place
    assert held.drawn(8, "é") == [7, 8]


def test_another_split_than_the_tokenizers_keeps_the_text() -> None:
    rig = Rig()
    rig.token(99, text="\ufffd", held_back=2)
    rig.token(3)
    assert rig.token_ids == [5, 6, 3]


def test_a_tokenizer_that_does_not_answer_fails_the_stream() -> None:
    rig = Rig()
    assert rig.token(1, text="ö", held_back=1) is True
    assert isinstance(rig.stream.error, EngineFailed)


def test_a_stream_given_up_in_prefill_knows_what_was_computed() -> None:
    rig = Rig()
    rig.progress(2)
    rig.stream.stop()
    assert rig.progress(3) is True
    assert rig.stream.slot_content == PROMPT[:2]
    assert rig.steps == []


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"type": "exceed_context_size_error", "message": "request (9 tokens) exceeds"}, InvalidRequest),
        (
            {"type": "invalid_request_error", "message": "Failed to initialize samplers: failed to parse grammar"},
            InvalidRequest,
        ),
        ({"type": "server_error", "message": "got exception: /secret/path"}, EngineFailed),
        ({}, EngineFailed),
    ],
)
def test_errors_come_in_our_own_words(error: dict[str, str], kind: type[Exception]) -> None:
    rig = Rig()
    rig.stream.on_message({"error": error})
    assert isinstance(rig.stream.error, kind)
    assert "secret" not in str(rig.stream.error)


def test_a_message_of_another_shape_ends_the_call() -> None:
    rig = Rig()
    assert rig.stream.on_message({"surprise": 1}) is True
    assert isinstance(rig.stream.error, EngineFailed)
