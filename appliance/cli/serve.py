"""`serve`: run the appliance in the foreground."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click

from appliance.cli.engine_flags import engine_flags, parse_engine_args
from appliance.cli.router_flags import ROUTER_SETTINGS, old_router_flags, take_old_router_flags
from appliance.cli.setting_flags import setting_flags, setting_values
from appliance.cli.verb import Call, Verb
from appliance.core.errors import UsageError
from appliance.roles.options import NodeOptions, WorkerWish

SETTINGS = {
    "--host": "http.host",
    "--port": "http.port",
    **ROUTER_SETTINGS,
    "--api-key-file": "http.api_key_file",
    "--tls-cert-path": "http.tls_cert_path",
    "--tls-key-path": "http.tls_key_path",
    "--frontend-processes": "http.frontend_processes",
    "--insecure-no-auth": "http.insecure_no_auth",
    "--cors-origin": "http.cors_origins",
    "--enable-anthropic-api": "http.enable_anthropic_api",
    "--enable-streaming-tool-dispatch": "http.enable_streaming_tool_dispatch",
    "--enable-streaming-reasoning-dispatch": "http.enable_streaming_reasoning_dispatch",
    "--strip-anthropic-preamble": "http.strip_anthropic_preamble",
    "--metrics-prefix": "http.metrics_prefix",
    "--access-log": "http.access_log",
    "--drain-s": "drain.request_s",
    "--hold-s": "requests.hold_s",
    "--max-models": "residency.max_models",
    "--idle-s": "residency.idle_s",
    "--migration-limit": "requests.migration_limit",
    "--migration-max-seq-len": "requests.migration_max_seq_len",
    "--exclude-tools-when-tool-choice-none": "requests.exclude_tools_when_tool_choice_none",
    "--request-template": "requests.template_file",
    "--log-format": "log.format",
    "--log-level": "log.level",
}
"""Flags that are settings. What they mean is in `core/settings.py`."""


WHOLE_ONLY = ("remote", "trtllm")
"""Engines whose workers cannot hand a request over."""


@click.command(cls=Verb)
@click.argument("models", nargs=-1, metavar="[MODEL]...")
@click.option(
    "-f", "--file", "files", multiple=True, type=click.Path(path_type=Path), help="Apply this manifest first."
)
@click.option("--config", "config_file", metavar="FILE", help="Settings file (TOML).")
@engine_flags
@click.option("--replicas", type=click.IntRange(min=0), help="Workers per model.  [default: 1]")
@click.option("--prefill", type=click.IntRange(min=1), metavar="N", help="Workers per model that only compute prompts.")
@click.option("--decode", type=click.IntRange(min=1), metavar="N", help="Workers per model that go on from there.")
@click.option("--pin", "pinned", multiple=True, metavar="NAME", help="Never unload this one of the given models.")
@setting_flags(SETTINGS)
@old_router_flags
@click.option("--ready-fd", type=click.IntRange(min=0), help="Also write the ready line to this descriptor.")
@click.pass_context
def serve(ctx: click.Context, /, **flags: Any) -> int:
    """Run the appliance in the foreground until SIGTERM or Ctrl-C.

    MODEL is the path of a .gguf file, a hub id (org/name[@REVISION][:FILE], fetched first if needed) or a name for the
    mocker engine. Without MODEL the stored graphs are served; if there are none, the small built-in demo model. Prints
    one line when everything is ready.
    """
    from appliance.cli.frozen import sweep_leftovers
    from appliance.roles.node import run_node

    options = node_options(ctx.obj, flags)
    sweep_leftovers()
    return run_node(options)


def node_options(call: Call, flags: Mapping[str, Any]) -> NodeOptions:
    """The options of the node role for parsed flags. Raises `UsageError`."""
    from appliance.preprocess.answer_parsing import check_parser_names

    engine_args = parse_engine_args(flags["engine_args"], flags["engine_url"])
    models: tuple[str, ...] = flags["models"]
    if flags["engine"] == "remote" and not models:
        from appliance.roles.remote_models import names_at

        models = names_at(engine_args)
    if flags["served_model_name"] and len(models) > 1:
        raise UsageError("--served-model-name names one model, and several are given")
    check_halves(flags)
    check_pins(flags, models)
    old, obsolete = take_old_router_flags(flags)
    load = partial(call.settings, flags["config_file"], old | setting_values(SETTINGS, flags))
    loaded = load()
    check_parser_names(flags["tool_call_parser"], flags["reasoning_parser"])
    wish = WorkerWish(
        engine=flags["engine"],
        engine_args=engine_args,
        replicas=1 if flags["replicas"] is None else flags["replicas"],
        prefill=flags["prefill"] or 0,
        decode=flags["decode"] or 0,
        served_model_name=flags["served_model_name"],
        context_length=flags["context_length"],
        task=flags["task"],
        tool_call_parser=flags["tool_call_parser"],
        reasoning_parser=flags["reasoning_parser"],
    )
    return NodeOptions(
        settings=loaded.settings,
        paths=call.paths,
        models=tuple(_absolute(model) for model in models),
        wish=wish,
        pinned=flags["pinned"],
        graph_files=flags["files"],
        ready_fd=flags["ready_fd"],
        warnings=(*loaded.warnings, *obsolete),
        reload=lambda: load().settings,
        debug=call.debug,
    )


def check_halves(flags: Mapping[str, Any]) -> None:
    """Raise `UsageError` unless the workers of a model are all of one kind, or of both halves of a split one."""
    prefill, decode = flags["prefill"], flags["decode"]
    if prefill is None and decode is None:
        return
    if prefill is None or decode is None:
        given, missing = ("--decode", "--prefill") if prefill is None else ("--prefill", "--decode")
        raise UsageError(f"{given} needs {missing}: a split model has workers of both kinds, such as {missing} 1")
    if flags["replicas"] is not None:
        raise UsageError("--replicas counts workers that are not split: use it, or --prefill and --decode")
    if flags["engine"] in WHOLE_ONLY:
        raise UsageError(f"the engine {flags['engine']} cannot be split: use --replicas")


def check_pins(flags: Mapping[str, Any], models: Sequence[str]) -> None:
    """Raise `UsageError` for a pin on a model that is not given."""
    from appliance.roles.model_names import default_served_name

    names = [flags["served_model_name"] or default_served_name(_absolute(model)) for model in models]
    for name in flags["pinned"]:
        if name not in names:
            raise UsageError(f"--pin {name}: no such model is given; those that are: {', '.join(names) or 'none'}")


def _absolute(model: str) -> str:
    """A path that exists as an absolute one, so that the stored graph means the same from everywhere."""
    path = Path(model).expanduser()
    return str(path.absolute()) if path.exists() or model.endswith(".gguf") else model
