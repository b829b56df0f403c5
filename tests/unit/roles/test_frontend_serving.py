"""What a front end makes of the picture it is given."""

import pytest

from appliance.core.records import KeyRecord
from appliance.core.settings import HttpSettings
from appliance.roles.frontend_serving import key_ring
from appliance.web.guards import hash_key

KEY = KeyRecord(name="one", sha256=hash_key("secret"), created=0)


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "192.0.2.1"])
def test_keys_open_the_port_of_any_address(host: str) -> None:
    ring = key_ring([KEY], HttpSettings(host=host))
    assert ring.admits("secret")
    assert not ring.admits("guess")


def test_a_port_for_others_stays_shut_when_its_last_key_is_revoked() -> None:
    ring = key_ring([], HttpSettings(host="0.0.0.0"))
    assert ring, "a ring without keys asks nobody for one"
    assert not ring.admits("secret")


@pytest.mark.parametrize("http", [HttpSettings(), HttpSettings(host="0.0.0.0", insecure_no_auth=True)])
def test_no_key_is_asked_for_where_none_was_needed(http: HttpSettings) -> None:
    assert not key_ring([], http)
