"""A LoRA adapter is a name of its own; its requests go to the workers of the base model."""

import msgspec

from appliance.core.identity import ModelName
from appliance.core.records import ModelRecord
from appliance.frontend.catalog import Catalog
from tests.helpers.engines import make_request


def test_requests_for_an_adapter_name_it_and_go_to_its_base() -> None:
    catalog = Catalog()
    base = ModelRecord(name=ModelName("wide"), phase="ready", created=1)
    catalog.set_records([base, msgspec.structs.replace(base, name=ModelName("poet"), base=ModelName("wide"))])
    request = msgspec.structs.replace(make_request(), model=ModelName("poet"))
    (changed,) = catalog.for_workers(ModelName("poet"), [request])
    assert (changed.model, changed.lora) == ("wide", "poet")
    assert catalog.for_workers(ModelName("wide"), [request]) == [request]
    assert catalog.base(ModelName("unknown")) == "unknown"
