"""Busy thresholds of models: which hold, and what an order makes of them. Pure."""

from collections.abc import Iterable, Sequence

import msgspec

from appliance.core.errors import ModelNotFound
from appliance.core.records import BusyThreshold, ModelRecord
from appliance.core.settings import RouterSettings
from appliance.frontend.control.views import BusyThresholdOrder


def thresholds_in_force(
    records: Iterable[ModelRecord], own: Iterable[BusyThreshold], router: RouterSettings
) -> list[BusyThreshold]:
    """Of every model, its own or those of the settings."""
    by_model = {one.model: one for one in own}
    return [by_model.get(record.name) or _default(record.name, router) for record in records]


def changed_threshold(
    in_force: Sequence[BusyThreshold], order: BusyThresholdOrder
) -> tuple[BusyThreshold, BusyThreshold]:
    """Those of the ordered model, before and after. Raises `ModelNotFound`, naming the models that exist."""
    found = next((one for one in in_force if one.model == order.model), None)
    if found is None:
        names = ", ".join(one.model for one in in_force) or "none"
        raise ModelNotFound(f"the model {order.model!r} does not exist; models here: {names}")
    given = {name: value for name, value in msgspec.structs.asdict(order).items() if value is not msgspec.UNSET}
    return found, msgspec.structs.replace(found, **given)


def _default(model: str, router: RouterSettings) -> BusyThreshold:
    return BusyThreshold(
        model=model,
        active_decode_blocks_threshold=router.active_decode_blocks_threshold,
        active_prefill_tokens_threshold=router.active_prefill_tokens_threshold,
        active_prefill_tokens_threshold_frac=router.active_prefill_tokens_threshold_frac,
    )
