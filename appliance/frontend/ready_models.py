"""Models as requests find them: existing, with a ready worker, and with the workers that the client chose."""

from collections.abc import Callable

import msgspec

from appliance.core.generation import NO_PINS, Pins
from appliance.core.settings import RequestSettings
from appliance.frontend.accounts import Account
from appliance.frontend.catalog import Catalog, Offer, ServedModel
from appliance.routing.router import Router


class ReadyModels:
    """Holds requests until their model can be used."""

    def __init__(self, catalog: Catalog, router: Router, settings: Callable[[], RequestSettings]) -> None:
        self._catalog, self._router, self._settings = catalog, router, settings

    async def find(self, name: str, account: Account, pins: Pins) -> ServedModel:
        """The model once it has a ready worker; tells the account whose workers these are.

        Raises `ModelNotFound`, `ModelNotReady` after the hold time, `InvalidRequest` when a pinned worker is not there.
        """
        offer = self._catalog.offer(name)
        model = account.model = offer.model
        if model != name:
            self._catalog.check_hope(name)  # workers that serve the base model need not have the adapter
        if not self._router.ready_workers(model):
            offer = await self._hold(offer)
        if pins is not NO_PINS:
            for number in (pins.worker, pins.prefill):
                if number is not None:
                    self._router.check_instance(model, number)
        served = offer.served
        assert served is not None, "a worker joins the router after its card was learnt"
        return served

    async def _hold(self, offer: Offer) -> Offer:
        with self._catalog.reasons(offer.model):
            await self._router.wait_ready(offer.model, self._settings().hold_s)
        return msgspec.structs.replace(offer, served=self._catalog.served(offer.model))
