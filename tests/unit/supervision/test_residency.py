"""The residency policy, one rule at a time."""

from dataclasses import replace

from appliance.supervision.residency.model_state import Decision, Load, ModelState, Residence, Unload
from appliance.supervision.residency.policy import Rules, decide
from appliance.supervision.residency.room import Room

RULES = Rules(min_residence_s=5, fairness_wait_s=10)
TWO = Room(most=2)
NOW = 100.0


def loaded(name: str, since: float = 0.0, *, last_use: float = 0.0, active: int = 0) -> ModelState:
    return ModelState(name=name, residence=Residence.RESIDENT, since=since, last_use=last_use, active=active)


def asked(name: str, waited_s: float = 1.0, *, waiting: int = 1) -> ModelState:
    return ModelState(name=name, waiting=waiting, oldest=NOW - waited_s)


def look(*models: ModelState, room: Room = TWO) -> Decision:
    return decide(models, room, RULES, NOW)


def names(decision: Decision) -> list[tuple[str, str]]:
    return [(type(effect).__name__, effect.model) for effect in decision.effects]


def test_a_cold_model_that_is_asked_for_is_loaded() -> None:
    assert look(asked("a", waiting=50)).effects == (Load("a", "50 requests waiting"),)


def test_one_that_is_loading_is_not_loaded_again() -> None:
    assert look(replace(asked("a"), residence=Residence.LOADING)).effects == ()


def test_nobody_asks_nothing_happens() -> None:
    assert look(ModelState(name="a"), loaded("b")) == Decision()


def test_the_one_not_used_for_longest_makes_room() -> None:
    found = look(asked("c"), loaded("a", last_use=90), loaded("b", last_use=80))
    assert names(found) == [("Unload", "b")]
    assert found.waits == {"c": "waiting for memory: b is being unloaded"}


def test_what_waits_is_loaded_once_the_other_has_gone() -> None:
    leaving = ModelState(name="b", residence=Residence.LEAVING)
    assert names(look(asked("c"), loaded("a"), leaving)) == []
    assert names(look(asked("c"), loaded("a"))) == [("Load", "c")]


def test_a_model_in_use_stays_until_the_wait_has_been_long() -> None:
    busy = loaded("a", active=1), loaded("b", since=50, active=1)
    found = look(asked("c", 9), *busy)
    assert (names(found), found.waits) == ([], {"c": "waiting for memory: a is in use"})
    assert found.look_again_at == NOW + 1
    assert names(look(asked("c", 10), *busy)) == [("Unload", "a")]


def test_a_fresh_model_is_left_alone_for_its_least_residence() -> None:
    fresh = loaded("a", since=97, last_use=97.5), loaded("b", since=98, last_use=98.5)
    found = look(asked("c"), *fresh)
    assert (names(found), found.look_again_at) == ([], 102)
    assert names(look(asked("c", 10), *fresh)) == [("Unload", "a")]


def test_a_fresh_model_that_nobody_has_used_is_in_the_way() -> None:
    assert names(look(asked("c"), loaded("a", since=99), loaded("b", since=98, last_use=99))) == [("Unload", "a")]


def test_the_gap_between_two_requests_of_a_busy_client_is_no_idleness() -> None:
    found = look(asked("c"), loaded("a", last_use=99.5), room=Room(most=1))
    assert (names(found), found.look_again_at) == ([], 100.5)


def test_what_is_too_much_after_all_is_brought_down() -> None:
    both = loaded("a", last_use=90), loaded("b", last_use=80)
    found = look(*both, room=Room(most=1))
    assert found.effects == (Unload("b", "what is loaded is too much: at most 1 model may be loaded at the same time"),)


def test_a_model_in_use_has_its_turn_however_long_others_wait() -> None:
    assert names(look(asked("c", 60), loaded("a", since=96, active=1), loaded("b", since=96, active=1))) == []


def test_a_model_serves_those_it_was_loaded_for_before_it_goes() -> None:
    owing = replace(loaded("a", since=94), waiting=3, oldest=80)
    assert names(look(asked("c", 15), owing, room=Room(most=1))) == []
    done = replace(owing, waiting=0)
    assert names(look(asked("c", 15), done, room=Room(most=1))) == [("Unload", "a")]


def test_room_that_is_kept_for_the_first_is_not_given_to_the_second() -> None:
    room = Room(limits={"memory": 10})
    big = replace(asked("big", 5), needs={"memory": 10})
    small = replace(asked("small", 1), needs={"memory": 5})
    busy = replace(loaded("a", active=1), needs={"memory": 5})
    found = decide([small, big, busy], room, RULES, NOW)
    assert names(found) == []
    assert set(found.waits) == {"big", "small"}


def test_a_later_one_that_is_in_nobodys_way_is_loaded() -> None:
    room = Room(limits={"memory": 10, "other": 10})
    first = replace(asked("first", 5), needs={"memory": 10})
    second = replace(asked("second"), needs={"other": 10})
    busy = replace(loaded("a", active=1), needs={"memory": 5})
    assert names(decide([first, second, busy], room, RULES, NOW)) == [("Load", "second")]


def test_as_few_as_will_do_make_room() -> None:
    room = Room(limits={"memory": 10})
    small = replace(loaded("small", last_use=1), needs={"memory": 2})
    large = replace(loaded("large", last_use=2), needs={"memory": 8})
    wish = replace(asked("c"), needs={"memory": 8})
    assert names(decide([wish, small, large], room, RULES, NOW)) == [("Unload", "large")]


def test_models_of_one_group_push_each_other_out() -> None:
    group = frozenset({"gpu"})
    a, b = replace(loaded("a"), groups=group), replace(asked("b"), groups=group)
    assert names(look(a, b, loaded("other"), room=Room())) == [("Unload", "a")]


def test_a_pinned_model_is_loaded_unasked_and_never_pushed_out() -> None:
    assert names(look(ModelState(name="a", pinned=True))) == [("Load", "a")]
    pinned = replace(loaded("a"), pinned=True)
    found = look(asked("b", 1000), pinned, room=Room(most=1))
    assert (found.effects, found.hopeless) == ((), {"b": "its memory is taken: a is pinned"})


def test_a_model_that_never_fits_is_hopeless_and_pushes_nobody_out() -> None:
    room = Room(limits={"memory": 10 << 30})
    found = decide([replace(asked("b"), needs={"memory": 16 << 30}), loaded("a")], room, RULES, NOW)
    assert found.effects == ()
    assert found.hopeless == {"b": "16.00 GiB of memory are needed and the limit is 10.00 GiB"}


def test_an_idle_model_goes_after_its_time() -> None:
    idle = replace(loaded("a", last_use=95), idle_s=10)
    assert look(idle) == Decision(look_again_at=105)
    assert look(replace(idle, last_use=90)).effects == (Unload("a", "it was idle for 10 s"),)
    for kept in (replace(idle, active=1), replace(idle, waiting=1, oldest=0), replace(idle, pinned=True)):
        assert look(replace(kept, last_use=0)).effects == ()


def test_new_models_are_loaded_while_there_is_room_and_push_nobody_out() -> None:
    new = [ModelState(name=name, preload=True) for name in "abc"]
    assert names(look(*new)) == [("Load", "a"), ("Load", "b")]
    assert names(look(loaded("x"), loaded("y"), *new)) == []


def test_models_that_can_sleep_do_so_and_end_when_their_memory_is_needed() -> None:
    sleepy = replace(loaded("a"), sleep_level=1, needs={"gpu": 8}, needs_asleep={"memory": 8})
    wish = replace(asked("b"), needs={"gpu": 8})
    room = Room(limits={"gpu": 10, "memory": 10})
    assert decide([sleepy, wish], room, RULES, NOW).effects[0] == Unload(
        "a", "makes room for b, which requests wait for; it was the one not used for longest", 1
    )
    asleep = replace(sleepy, residence=Residence.ASLEEP)
    assert names(decide([asleep, wish], room, RULES, NOW)) == [("Load", "b")]
    assert names(decide([asleep, replace(wish, needs={"gpu": 8, "memory": 8})], room, RULES, NOW)) == [("Unload", "a")]
    assert names(decide([replace(asleep, waiting=1)], room, RULES, NOW)) == [("Load", "a")]


def sleepy(name: str, since: float, *, keeps: int) -> ModelState:
    return replace(loaded(name, since), sleep_level=1, needs={"gpu": 8}, needs_asleep={"main": keeps})


def levels(decision: Decision) -> list[int]:
    """How deep the models sleep that leave."""
    return [effect.sleep_level for effect in decision.effects if isinstance(effect, Unload)]


def test_who_makes_room_sleeps_where_memory_for_it_is_left() -> None:
    room = Room(limits={"gpu": 8, "main": 10})
    coming = replace(asked("b"), needs={"gpu": 8})
    assert levels(look(sleepy("a", 0, keeps=10), coming, room=room)) == [1]
    assert levels(look(sleepy("a", 0, keeps=11), coming, room=room)) == [0]


def test_who_is_idle_ends_where_sleepers_have_filled_main_memory() -> None:
    room = Room(limits={"gpu": 8, "main": 10})
    idle = replace(sleepy("a", 0, keeps=6), idle_s=5)
    other = replace(sleepy("b", 0, keeps=6), residence=Residence.ASLEEP)
    assert levels(look(idle, room=room)) == [1]
    assert levels(look(idle, other, room=room)) == [0]
