"""What the store holds before anything is started: the graph of the command line, files given, or the demo."""

from pathlib import Path
from typing import Any

import trio

from appliance.core.config import environment
from appliance.core.errors import UsageError
from appliance.core.ports import StateStore, StateWriter
from appliance.graph.kinds import DGD
from appliance.graph.manifest import parse_manifests
from appliance.graph.serve import ServeModel, build_serve_graph
from appliance.models.demo import DEMO_NAME
from appliance.roles.auto_engine import chosen_engine
from appliance.roles.hub_models import model_source, pin_model
from appliance.roles.model_names import default_served_name
from appliance.roles.node.objects import apply_graph
from appliance.roles.options import NodeOptions, WorkerWish

SERVE = "serve"


async def write_first_graph(store: StateStore, options: NodeOptions) -> bool:
    """Put what the command line wants; True when the store was empty and the demo model was chosen.

    Raises `UsageError` for an unreadable file, `Unprocessable` for a graph that breaks a rule, `ModelUnavailable` or
    `HubUnreachable` for a hub model that neither lies here nor can be found; then nothing is put.
    """
    files = [await trio.to_thread.run_sync(_read_graphs, path) for path in options.graph_files]

    models = await trio.to_thread.run_sync(_pin_models, options)

    def change(writer: StateWriter) -> bool:
        for document in [one for documents in files for one in documents]:
            apply_graph(writer, document)
        if models:
            apply_graph(writer, _serve_graph(options, models), replace=True)
            return False
        if writer.list_all(DGD):
            if options.wish != WorkerWish():
                raise UsageError("engine and worker flags need a MODEL; stored graphs are changed with `apply`")
            return False
        apply_graph(writer, _serve_graph(options, ((DEMO_NAME, options.wish.engine),)))
        return True

    return await store.write(change)


def _pin_models(options: NodeOptions) -> tuple[tuple[str, str], ...]:
    """The models of the command line, those of a hub with the commit that they mean today, each with its engine."""
    wanted = options.wish.engine
    if "url" in options.wish.engine_args:  # who runs the server has the models
        return tuple((model, wanted) for model in options.models)
    source = model_source(options.settings.hub, options.paths.models, environment())
    engines = [chosen_engine(wanted, model, source, options.paths.state_dir / "engines") for model in options.models]
    return tuple(
        (pin_model(engine, model, source), engine) for model, engine in zip(options.models, engines, strict=True)
    )


def _serve_graph(options: NodeOptions, models: tuple[tuple[str, str], ...]) -> dict[str, Any]:
    wish = options.wish
    wanted = [
        ServeModel(
            model=model,
            engine=engine,
            replicas=wish.replicas,
            prefill=wish.prefill,
            decode=wish.decode,
            served_name=wish.served_model_name or default_served_name(model),
            context_length=wish.context_length,
            task=wish.task,
            engine_args=dict(wish.engine_args),
            tool_call_parser=wish.tool_call_parser,
            reasoning_parser=wish.reasoning_parser,
            pinned=(wish.served_model_name or default_served_name(model)) in options.pinned,
        )
        for model, engine in models
    ]
    return build_serve_graph(wanted, frontends=options.settings.http.frontend_processes)


def _read_graphs(path: Path) -> list[dict[str, Any]]:
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a text file"
        raise UsageError(f"cannot read {path}: {reason}") from None
    return [manifest.document for manifest in parse_manifests(text, str(path))]
