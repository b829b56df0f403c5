"""`indexer`: who holds how much of a prompt, as a service of its own."""

from typing import TYPE_CHECKING, Any

import click

from appliance.cli.verb import Call, Verb

if TYPE_CHECKING:
    from appliance.roles.indexer.role import Publisher

U64_END = 2**64


@click.command(cls=Verb)
@click.option("--host", default="127.0.0.1", show_default=True, metavar="ADDRESS", help="Address to bind.")
@click.option("--port", type=click.IntRange(0, 65535), default=8090, show_default=True, help="Port; 0 takes any.")
@click.option("--block-size", type=click.IntRange(min=1), required=True, metavar="TOKENS", help="Tokens in a KV block.")
@click.option("--workers", default="", metavar="ID[:RANK]=ENDPOINT,...", help="ZMQ publishers to follow at once.")
@click.option("--model-name", default="default", show_default=True, metavar="NAME", help="Model of these workers.")
@click.option("--tenant-id", default="default", show_default=True, metavar="NAME", help="Tenant of these workers.")
@click.option("--peers", default="", metavar="URL,...", help="Other indexers; the first that answers is copied.")
@click.option("--threads", type=click.IntRange(min=1), default=4, help="Accepted, without effect.")
@click.option("--insecure-no-auth", is_flag=True, help="Serve an address that others can reach; there are no keys.")
@click.pass_context
def indexer(ctx: click.Context, /, **flags: Any) -> int:
    """Follow the KV events of engines and answer how much of a prompt each holds.

    Engines publish over ZMQ, as vLLM and SGLang do. More workers come by POST /register. Prints one line when ready.
    """
    from appliance.roles.indexer.role import IndexerOptions, run_indexer

    call: Call = ctx.obj
    return run_indexer(
        IndexerOptions(
            host=flags["host"],
            port=flags["port"],
            block_size=flags["block_size"],
            model_name=flags["model_name"],
            tenant_id=flags["tenant_id"],
            publishers=parse_publishers(flags["workers"]),
            peers=tuple(url for url in flags["peers"].split(",") if url),
            insecure_no_auth=flags["insecure_no_auth"],
            log=call.settings().settings.log,
            debug=call.debug,
        )
    )


def parse_publishers(text: str) -> "tuple[Publisher, ...]":
    """`ID[:RANK]=ENDPOINT` texts with commas between them. Raises `click.UsageError`."""
    from appliance.roles.indexer.role import Publisher

    found = []
    for entry in filter(None, text.split(",")):
        name, equals, endpoint = entry.partition("=")
        number, _, rank = name.partition(":")
        if not equals or not endpoint or not is_number(number) or not is_number(rank or "0"):
            raise click.UsageError(f"--workers {entry!r} must have the form ID[:RANK]=ENDPOINT")
        found.append(Publisher(instance_id=int(number), rank=int(rank or 0), endpoint=endpoint))
    return tuple(found)


def is_number(text: str) -> bool:
    """An unsigned 64-bit number."""
    return text.isascii() and text.isdecimal() and len(text) <= 20 and int(text) < U64_END
