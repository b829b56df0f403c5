"""Engine arguments of a remote server, and its key."""

from dataclasses import dataclass
from pathlib import Path

from appliance.core.errors import UsageError
from appliance.core.model_facts import EngineOptions
from appliance.engines.arguments import EngineArguments
from appliance.engines.http.address import ServerAddress, parse_address

KNOWN = ("api_key_file", "guided", "health_every_s", "max_num_seqs", "model", "tools", "url")
SWITCH = ("true", "false")


@dataclass(frozen=True, kw_only=True)
class RemoteOptions:
    """How one model of a remote server is used."""

    address: ServerAddress
    model: str | None
    """Its name there; None: the name given as MODEL."""
    api_key: str | None
    max_num_seqs: int
    """Streams that the server is believed to run at once."""
    guided: bool
    """The server keeps to JSON schemas in `response_format`."""
    tools: str
    """`auto`: the server finds tool calls itself; `text`: it is told not to, and they are found here."""
    health_every_s: float

    @property
    def headers(self) -> dict[str, str]:
        """What every request carries."""
        return {"authorization": f"Bearer {self.api_key}"} if self.api_key else {}


def read_options(options: EngineOptions) -> RemoteOptions:
    """The typed engine arguments. Raises `UsageError` for an unknown key, a bad value, an unreadable key file."""
    args = EngineArguments("remote", options.args, KNOWN)
    url = args.text("url")
    if not url:
        raise UsageError("the remote engine needs the URL of its server: --engine-url http://HOST:PORT")
    return RemoteOptions(
        address=parse_address(url),
        model=args.text("model") or None,
        api_key=read_key(args.text("api_key_file")),
        max_num_seqs=args.integer("max_num_seqs", 256, low=1, high=65536),
        guided=args.one_of("guided", "true", SWITCH) == "true",
        tools=args.one_of("tools", "text" if options.tool_call_parser else "auto", ("auto", "text")),
        health_every_s=args.number("health_every_s", 5.0, low=0.05),
    )


def read_key(path: str | None) -> str | None:
    """The key in a file. Raises `UsageError` when it cannot be read or could be no header."""
    if not path:
        return None
    try:
        key = Path(path).expanduser().read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a text file"
        raise UsageError(f"cannot read the engine's API key in {path}: {reason}") from None
    if not key.isascii() or not key.isprintable() or " " in key:
        raise UsageError(f"the file {path} holds no API key")
    return key
