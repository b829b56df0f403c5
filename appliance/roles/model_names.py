"""The name that a model is served under when nobody gave one."""

from pathlib import Path

from appliance.core.errors import UsageError
from appliance.graph.arguments import flag_value
from appliance.models.hub.reference import HubReference, parse_reference


def default_served_name(model: str) -> str:
    """A path's own name, `org/name` of a hub id whatever its commit and file; a made-up mocker name stays as it is."""
    path = Path(model)
    if not path.is_absolute() and (reference := _reference(model)):
        return reference.repo
    if path.suffix == ".gguf":
        return path.stem
    return path.name if path.is_absolute() else model


def served_name(argv: tuple[str, ...]) -> str | None:
    """The name under which a worker started with this argv will serve; None when it does not say."""
    given = flag_value(argv, "--served-model-name")
    if given:
        return given
    model = flag_value(argv, "--model")
    return default_served_name(model) if model else None


def _reference(model: str) -> HubReference | None:
    try:
        return parse_reference(model)
    except UsageError:
        return None  # the worker will say what is wrong with it
