"""A model is not unloaded for the sake of replicas of its own that have no place."""

from collections.abc import Collection

from appliance.supervision.residency.model_state import Load, ModelState, Residence
from appliance.supervision.residency.policy import Rules, decide
from appliance.supervision.residency.room import Room


def no_places(models: Collection[ModelState]) -> bool:
    return False


def test_what_is_left_of_a_model_after_the_loss_of_a_gpu_goes_on_serving() -> None:
    alone = ModelState(name="m", residence=Residence.RESIDENT)
    assert decide([alone], Room(devices=no_places), Rules(), 100.0).effects == ()


def test_a_single_model_is_let_in_so_that_placing_can_say_what_is_missing() -> None:
    wanted = ModelState(name="m", preload=True)
    effects = decide([wanted], Room(devices=no_places), Rules(), 100.0).effects
    assert [(type(one), one.model) for one in effects] == [(Load, "m")]


def test_two_models_are_not_together_where_gpus_have_no_places_for_both() -> None:
    both = [ModelState(name=name, residence=Residence.RESIDENT) for name in ("a", "b")]
    assert len(decide(both, Room(devices=no_places), Rules(), 100.0).effects) == 1
