"""The name that a model is served under when nobody gave one."""

from pathlib import Path

from appliance.graph.arguments import flag_value


def default_served_name(model: str) -> str:
    """A file's or folder's own name for a path; anything else (a hub id, a made-up mocker name) stays as it is."""
    path = Path(model)
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
