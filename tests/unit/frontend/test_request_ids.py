"""Ids of requests: random UUIDs, in forked processes too."""

import os
import uuid

from appliance.frontend.request_ids import new_id


def test_ids_are_random_uuids() -> None:
    for made in (new_id() for _ in range(100)):
        read = uuid.UUID(made)
        assert str(read) == made
        assert (read.version, read.variant) == (4, uuid.RFC_4122)


def test_every_other_digit_takes_every_value() -> None:
    ids = [new_id() for _ in range(1000)]
    assert len(set(ids)) == 1000
    fixed = {8: "-", 13: "-", 14: "4", 18: "-", 19: "89ab", 23: "-"}
    for place in range(36):
        assert {made[place] for made in ids} == set(fixed.get(place, "0123456789abcdef"))


def test_a_forked_process_makes_others() -> None:
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(theirs, new_id().encode())
        os._exit(0)
    os.waitpid(child, 0)
    made = os.read(ours, 36).decode()
    os.close(ours)
    os.close(theirs)
    assert uuid.UUID(made).version == 4
    assert made != new_id()
