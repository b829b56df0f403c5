"""The models of a remote server, for `serve --engine remote` without a MODEL."""

from functools import partial

import trio

from appliance.core.errors import ApplianceError, CannotStart, UsageError
from appliance.core.model_facts import EngineOptions
from appliance.engines.http.client import HttpClient
from appliance.engines.remote.listing import list_models
from appliance.engines.remote.options import read_options

MOST_MODELS = 8  # each becomes a worker process of its own


def names_at(engine_args: dict[str, str]) -> tuple[str, ...]:
    """The names that the server lists. Blocks for the time of one request.

    Raises `UsageError` when there are none or more than anyone means to serve at once, `CannotStart` for a server that
    cannot be reached.
    """
    return trio.run(partial(_ask, EngineOptions(served_name="", args=engine_args)))


async def _ask(options: EngineOptions) -> tuple[str, ...]:
    given = read_options(options)
    if given.model:
        return (given.model,)
    client = HttpClient(given.address, given.headers)
    try:
        listed = await list_models(client)
    except ApplianceError as error:
        raise CannotStart(f"cannot list the models at {given.address.url}: {error}") from None
    finally:
        await client.close()
    if not listed:
        raise UsageError(f"the server at {given.address.url} lists no models; name the one to serve")
    if len(listed) > MOST_MODELS:
        raise UsageError(f"the server at {given.address.url} has {len(listed)} models; name those to serve")
    return tuple(entry.name for entry in listed)
