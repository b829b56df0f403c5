"""`models`: list what is served and what lies here, fetch from a hub, verify, remove, and show what files hold."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from appliance.cli.model_rows import local_rows, model_cells, served_rows, stored_rows, users_of_models
from appliance.cli.output import note, print_json, print_table
from appliance.cli.pull_progress import print_event, pull_display
from appliance.cli.verb import Call, VerbGroup, json_flag
from appliance.core.config import environment
from appliance.core.errors import Conflict, NotFound, UsageError
from appliance.core.model_facts import ModelFacts
from appliance.roles.options import ENGINES

if TYPE_CHECKING:
    from appliance.models.hub.pull import Pulled
    from appliance.models.store import ModelStore, StoredModel
    from appliance.roles.hub_models import ModelSource

MIB = 1 << 20


@click.group(cls=VerbGroup)
def models() -> None:
    """Fetch, list, check and remove models, and show what a file holds."""


@models.command()
@click.argument("references", nargs=-1, required=True, metavar="MODEL...")
@click.option(
    "--engine", type=click.Choice(ENGINES), default="auto", show_default=True, help="Engine that the files are for."
)
@click.option("--allow-remote-code", is_flag=True, help="Accept models with Python code of their own.")
@click.option("--allow-pickle", is_flag=True, help="Accept weights as pickles, which can run code.")
@json_flag
@click.pass_obj
def pull(call: Call, /, references: tuple[str, ...], engine: str, as_json: bool, **allowed: bool) -> None:
    """Fetch models from the hub, or the rest of them after a break.

    MODEL is org/name[@REVISION][:FILE]. FILE is a GGUF file or its quantisation, such as Q4_K_M; without one, the
    largest that fits into memory is taken.
    """
    from appliance.models.hub.progress import amount

    flags: dict[str, object] = {f"hub.{name}": True for name, given in allowed.items() if given}
    source = _source(call, flags)
    for reference in references:
        pulled = _pull(source, reference, engine, as_json=as_json)
        name, fetched = pulled.model.name, pulled.fetched_bytes
        if as_json:
            print_event("done", model=name, path=str(pulled.path), fetched_bytes=fetched)
        else:
            how = f", {amount(fetched)} fetched" if fetched else " already"
            click.echo(f"{name} is here{how}: {pulled.path}")


@models.command("list")
@json_flag
@click.pass_obj
def list_models(call: Call, as_json: bool) -> None:
    """List the models that are served, and those in the state dir."""
    store = _store(call)
    rows = served_rows(call) + stored_rows(store, users_of_models(call, store)) + local_rows(call.paths.models)
    if as_json:
        print_json(rows)
    elif rows:
        header = ("NAME", "STATE", "CONTEXT", "SIZE", "USED BY", "PLACE")
        print_table(header, [model_cells(row) for row in rows])
    else:
        note(f"no models are served, and none lie in {call.paths.models}")


@models.command()
@click.argument("model")
@json_flag
@click.pass_obj
def show(call: Call, model: str, as_json: bool) -> None:
    """Show what the files of a MODEL say: a path, a hub id or a name in the state dir, or `demo`."""
    from appliance.models.facts import describe_model

    stored = _find_main(call, model)
    path = stored[0].path(stored[1]) if stored else _local_path(call, model)
    facts = describe_model(path.expanduser())
    origin = _origin(stored[0]) if stored else {}
    if as_json:
        print_json({**_plain(facts), **origin})
        return
    cache = facts.kv_bytes_per_token * facts.context_length
    for name, value in {**_plain(facts), **origin}.items():
        click.echo(f"{name.replace('_', ' '):<20}{', '.join(value) if isinstance(value, list) else value}")
    click.echo(f"{'weights':<20}{facts.size_bytes / MIB:.1f} MiB")
    click.echo(f"{'KV cache':<20}{cache / MIB:.1f} MiB for one stream of full length")


@models.command()
@click.argument("references", nargs=-1, metavar="[MODEL]...")
@json_flag
@click.pass_obj
def verify(call: Call, references: tuple[str, ...], as_json: bool) -> int:
    """Read the files of hub models (default: all) and compare them with the hub's hashes. Needs no network."""
    store = _store(call)
    chosen = [model for reference in references for model in _find_all(store, reference)] or store.models()
    wrong = {model.name: model.wrong() for model in chosen}
    if as_json:
        print_json([{"name": name, "wrong_files": files} for name, files in wrong.items()])
    else:
        for name, files in wrong.items():
            click.echo(f"{name}: " + (f"wrong or missing: {', '.join(files)}" if files else "ok"))
        if any(wrong.values()):
            note("to fetch them again: dynamo-appliance models rm MODEL, then models pull MODEL")
    return 1 if any(wrong.values()) else 0


@models.command()
@click.argument("references", nargs=-1, required=True, metavar="MODEL...")
@click.pass_obj
def rm(call: Call, references: tuple[str, ...]) -> None:
    """Delete hub models from the disk. One that a stored graph of the running appliance uses is refused."""
    from appliance.models.hub.progress import amount

    store = _store(call)
    users = users_of_models(call, store)
    chosen = {model.name: model for reference in references for model in _find_all(store, reference)}
    for name in chosen:
        if name in users:
            raise Conflict(f"cannot remove {name}: it is used by {', '.join(users[name])}; delete or change that first")
    for name, model in chosen.items():
        with store.lock(model.manifest.repo, _no_waiting, lambda: None):
            freed = store.remove(model)
        click.echo(f"{name} removed, {amount(freed)} freed")


@models.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.pass_obj
def load(call: Call, names: tuple[str, ...]) -> None:
    """Load served models before a request comes; others may be unloaded for them. Returns at once."""
    for name in names:
        call.admin().post("models/load", body={"name": name})
        click.echo(f"{name} is loaded, as soon as there is room for it")


@models.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.pass_obj
def unload(call: Call, names: tuple[str, ...]) -> None:
    """Unload served models when their requests are done; the next request loads them again. Returns at once."""
    for name in names:
        call.admin().post("models/unload", body={"name": name})
        click.echo(f"{name} is unloaded")


@models.command()
@click.pass_obj
def prune(call: Call) -> None:
    """Delete what unfinished downloads have left, but for those that are running."""
    from appliance.models.hub.progress import amount

    click.echo(f"{amount(_store(call).prune())} freed")


def fetch_for_use(call: Call, model: str) -> str:
    """The path of a hub model, fetched into the state dir if it is not there; anything else as it is."""
    from appliance.roles.hub_models import hub_reference

    if (reference := hub_reference("auto", model)) is None:
        return model
    source = _source(call)
    found = source.store.find_main(reference)
    return str(found[0].path(found[1]) if found else _pull(source, model, "llamacpp", as_json=False).path)


def _pull(source: "ModelSource", text: str, engine: str, *, as_json: bool) -> "Pulled":
    from appliance.models.hub.pull import PullWatch
    from appliance.models.hub.reference import parse_reference

    reference = parse_reference(text)
    if reference is None:
        raise click.UsageError(f"{text!r} is no hub id; it must be org/name[@REVISION][:FILE]")
    try:
        with pull_display(reference.repo, as_json=as_json) as display:
            watch = PullWatch(
                on_progress=display.on_progress,
                say=display.say,
                pause=time.sleep,
                clock=time.monotonic,
                now=time.time,
            )
            pulled = source.puller(watch).pull(reference, source.wish(engine, to_serve=False), refresh=True)
    except KeyboardInterrupt:
        note("stopped; what has come is kept, and the next pull goes on with it")
        raise
    return pulled


def _source(call: Call, flags: dict[str, object] | None = None) -> "ModelSource":
    from appliance.roles.hub_models import model_source

    return model_source(call.settings(None, flags).settings.hub, call.paths.models, environment())


def _store(call: Call) -> "ModelStore":
    from appliance.models.store import ModelStore

    return ModelStore(call.paths.models)


def _no_waiting(_: float) -> None:
    raise Conflict("cannot remove a model that is being pulled")


def _find_all(store: "ModelStore", text: str) -> "list[StoredModel]":
    """What a reference means; without a revision, all commits of the repository."""
    from appliance.models.hub.reference import parse_reference

    reference = parse_reference(text)
    if reference is not None and reference.file is not None:
        raise UsageError(
            f"a model is checked and removed as a whole; give {reference.repo}, with @COMMIT for one of several"
        )
    if reference is not None and reference.revision is None:
        found = [model for model in store.models() if model.manifest.repo == reference.repo]
    else:
        one = store.find(reference) if reference else None
        found = [one] if one else []
    if not found:
        known = ", ".join(model.name for model in store.models()) or "none"
        raise NotFound(f"no hub model {text} lies here; those that do: {known}")
    return found


def _find_main(call: Call, model: str) -> "tuple[StoredModel, str] | None":
    from appliance.models.hub.reference import parse_reference

    reference = None if Path(model).expanduser().exists() else parse_reference(model)
    return _store(call).find_main(reference) if reference else None


def _local_path(call: Call, model: str) -> Path:
    from appliance.models.demo import DEMO_NAME, demo_model_path

    if model in ("demo", DEMO_NAME):
        return demo_model_path()
    stored = call.paths.models / model
    return stored if stored.exists() else Path(model)


def _origin(model: "StoredModel") -> dict[str, Any]:
    """Where a hub model came from."""
    manifest = model.manifest
    return {
        "repository": manifest.repo,
        "commit": manifest.commit,
        "source": manifest.source,
        "pulled": time.strftime("%Y-%m-%d %H:%M", time.localtime(manifest.pulled_at)),
        "stored_files": sorted(manifest.files),
    }


def _plain(facts: ModelFacts) -> dict[str, Any]:
    """The facts that are single values, and the names of the files."""
    names = ("name", "architecture", "task", "size_bytes", "context_length", "vocab_size", "layers", "embedding_size")
    plain = {name: getattr(facts, name) for name in (*names, "kv_bytes_per_token")}
    return {**plain, "path": str(facts.path), "files": sorted(facts.files)}
