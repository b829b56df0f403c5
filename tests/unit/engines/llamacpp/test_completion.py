"""The body of an engine call."""

from typing import Any

from appliance.core.requests import Sampling
from appliance.engines.llamacpp.completion import SEED_LIMIT, Leg, completion_body, draw_seed
from tests.helpers.engines import make_request

DEFAULTS = Sampling(temperature=0.7, top_p=0.9)


def body(sampling: Sampling | None = None, leg: Leg | None = None, **fields: Any) -> dict[str, Any]:
    request = make_request([1, 2, 3], sampling=sampling or Sampling(), **fields)
    leg = leg or Leg(prompt=request.token_ids, max_tokens=8, seed=5)
    return completion_body(request, leg, slot=3, context=512, defaults=DEFAULTS, grammar=None)


def test_what_the_request_leaves_open_the_model_decides() -> None:
    made = body(Sampling(temperature=0))
    assert (made["temperature"], made["top_p"]) == (0, 0.9)
    assert not {"top_k", "min_p", "logit_bias", "n_probs", "grammar", "repeat_last_n"} & made.keys()


def test_every_sampling_field_has_its_place() -> None:
    made = body(
        Sampling(
            top_k=7,
            min_p=0.1,
            presence_penalty=0.2,
            frequency_penalty=0.3,
            repetition_penalty=1.1,
            logit_bias={9: -100.0},
        )
    )
    wanted = {
        "top_k": 7,
        "min_p": 0.1,
        "presence_penalty": 0.2,
        "frequency_penalty": 0.3,
        "repeat_penalty": 1.1,
        "repeat_last_n": 512,
        "logit_bias": [[9, -100.0]],
    }
    assert made.items() >= wanted.items()


def test_end_tokens_can_be_forbidden() -> None:
    leg = Leg(prompt=[1], max_tokens=4, banned=frozenset({2, 0}), end_allowed=False, seed=1)
    made = body(Sampling(), leg)
    assert made["ignore_eos"] is True
    assert made["logit_bias"] == [[0, False], [2, False]]
    assert body()["ignore_eos"] is False
    assert body(ignore_eos=True)["ignore_eos"] is True


def test_one_probability_is_asked_for_even_when_no_alternative_is() -> None:
    assert body(logprobs=0)["n_probs"] == 1
    assert body(logprobs=5)["n_probs"] == 5


def test_seeds_fit_the_engine() -> None:
    for seed in (0, -1, 2**32, 2**63, SEED_LIMIT):
        assert 0 <= draw_seed(Sampling(seed=seed)) < SEED_LIMIT
    assert draw_seed(Sampling(seed=42)) == 42
    assert len({draw_seed(Sampling()) for _ in range(5)}) > 1
