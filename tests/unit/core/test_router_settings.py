"""Optional numbers, and the obsolete environment of the router."""

import pytest

from appliance.core.config import load_settings, settings_environment
from appliance.core.errors import UsageError
from appliance.core.settings import RouterSettings, Settings


def router(**environ: str) -> RouterSettings:
    return load_settings(config_file=None, environ=environ, flags={}).settings.router


@pytest.mark.parametrize("text", ["None", "none", ""])
def test_a_number_may_be_missing(text: str) -> None:
    assert router(DYN_ROUTER_QUEUE_THRESHOLD=text).queue_threshold is None
    with pytest.raises(UsageError, match=r"router\.temperature"):
        router(DYN_ROUTER_TEMPERATURE=text)


def test_what_a_child_is_handed_is_what_was_set() -> None:
    given = Settings(router=RouterSettings(queue_threshold=None, active_prefill_tokens_threshold=None, ttl_s=7.5))
    environ = settings_environment(given)
    assert load_settings(config_file=None, environ=environ, flags={}).settings == given


@pytest.mark.parametrize("name", ["DYN_ROUTER_KV_OVERLAP_SCORE_WEIGHT", "DYN_OVERLAP_SCORE_WEIGHT"])
def test_the_obsolete_weight_beats_the_scale_and_warns(name: str) -> None:
    loaded = load_settings(config_file=None, environ={name: "2", "DYN_ROUTER_PREFILL_LOAD_SCALE": "3"}, flags={})
    assert loaded.settings.router == RouterSettings(prefill_load_scale=2.0)
    assert any(name in warning for warning in loaded.warnings)
    assert router(**{name: "0"}) == RouterSettings(prefill_load_scale=0.0, overlap_score_credit=0.0)


def test_the_obsolete_weight_does_not_reach_over_what_a_child_is_handed() -> None:
    environ = {**settings_environment(Settings()), "DYN_OVERLAP_SCORE_WEIGHT": "0"}
    assert load_settings(config_file=None, environ=environ, flags={}).settings == Settings()
