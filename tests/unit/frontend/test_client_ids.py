"""Which request a user means by an id."""

import pytest

from appliance.core.identity import RequestId
from appliance.frontend.client_ids import KEPT, ClientIds, plain_id

UUID = "11111111-2222-4333-8444-555555555555"


@pytest.mark.parametrize(
    "shown", [UUID, f"chatcmpl-{UUID}", f"cmpl-{UUID}", f"resp_{UUID.replace('-', '')}", f"msg_{UUID.replace('-', '')}"]
)
def test_an_id_as_any_protocol_shows_it(shown: str) -> None:
    assert plain_id(shown) == UUID


def test_ids_of_clients_are_remembered_for_a_while() -> None:
    ids = ClientIds()
    ids.note(b"mine", RequestId("a"))
    ids.note(b"mine", RequestId("b"))
    assert ids.find("mine") == ["mine", "a", "b"]
    for number in range(KEPT):
        ids.note(b"x%d" % number, RequestId("c"))
    assert ids.find("mine") == ["mine"]


def test_one_name_for_everything_stays_bounded() -> None:
    ids = ClientIds()
    for number in range(KEPT + 5):
        ids.note(b"same", RequestId(str(number)))
    assert len(ids.find("same")) == KEPT + 1
