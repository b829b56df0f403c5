"""What a front end remembers of one request, for `why`: its placements, and the request itself."""

from typing import Any

from appliance.frontend.accounts import Accounts
from appliance.frontend.client_ids import ClientIds
from appliance.routing.router import Router


def recall(client_ids: ClientIds, router: Router, accounts: Accounts, name: str) -> dict[str, Any] | None:
    """Plain data about all requests of that name, an id of ours or of a client; None when none is known here."""
    ids = list(dict.fromkeys(client_ids.find(name)))
    placements = [decision for one in ids for decision in router.why(one)]
    known = set(ids)
    requests = [row for row in [*accounts.snapshot(), *accounts.ended()] if row["id"] in known]
    return {"placements": placements, "requests": requests} if placements or requests else None
