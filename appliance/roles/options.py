"""What the command line hands to a role: parsed, checked values; a role reads no flags and no environment itself."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from appliance.core.config import ChildEnvironment
from appliance.core.paths import Paths
from appliance.core.requests import Task
from appliance.core.settings import (
    DrainSettings,
    HubSettings,
    LogSettings,
    Settings,
    SupervisionSettings,
    TraceSettings,
)
from appliance.discovery.socket_places import SocketPlaces

ENGINES = ("auto", "llamacpp", "mocker", "vllm", "sglang", "trtllm", "remote")
"""What `--engine` may be; `auto` looks at the model."""
SERVERS = ("vllm", "sglang", "trtllm")
"""Engines that are servers of their own, started beside a worker or reached by URL."""


@dataclass(frozen=True, kw_only=True)
class WorkerWish:
    """The worker flags of `serve`: they hold for each model it was given."""

    engine: str = "auto"
    engine_args: dict[str, str] = field(default_factory=dict)
    replicas: int = 1
    prefill: int = 0
    """With `decode`: workers that only compute prompts, and workers that go on from there, in place of `replicas`."""
    decode: int = 0
    served_model_name: str | None = None
    """None: named after the file or folder. Never set together with several models."""
    context_length: int | None = None
    """None: the model's own, bounded by memory."""
    task: Task | None = None
    """None: what the model is made for."""
    tool_call_parser: str | None = None
    reasoning_parser: str | None = None


@dataclass(frozen=True, kw_only=True)
class NodeOptions:
    """One run of `serve`."""

    settings: Settings
    paths: Paths
    models: tuple[str, ...] = ()
    """As typed: a path (made absolute when it exists) or a name. Empty: what is stored, or the demo model."""
    wish: WorkerWish = field(default_factory=WorkerWish)
    pinned: tuple[str, ...] = ()
    """Served names of models that are never unloaded."""
    graph_files: tuple[Path, ...] = ()
    """Manifests to apply before anything is started."""
    ready_fd: int | None = None
    """Gets the ready line too, then is closed."""
    warnings: tuple[str, ...] = ()
    """What was odd about the settings, one line each, to be logged."""
    reload: Callable[[], Settings] | None = None
    """Reads the settings anew from where they came; raises `UsageError`. Called in a thread."""
    debug: bool = False
    """Let tracebacks through."""


@dataclass(frozen=True, kw_only=True)
class WorkerOptions:
    """One worker process: one engine, one model."""

    child: ChildEnvironment
    model: str
    engine: str = "auto"
    engine_args: dict[str, str] = field(default_factory=dict)
    served_model_name: str | None = None
    context_length: int | None = None
    task: Task | None = None
    tool_call_parser: str | None = None
    reasoning_parser: str | None = None
    supervision: SupervisionSettings = field(default_factory=SupervisionSettings)
    models: Path | None = None
    """Where hub models lie; None: only paths can be served."""
    hub: HubSettings = field(default_factory=HubSettings)
    log: LogSettings = field(default_factory=LogSettings)
    trace: TraceSettings = field(default_factory=TraceSettings)
    drain: DrainSettings = field(default_factory=DrainSettings)
    """How long streams may run on after a stop signal; a supervisor says it anew."""
    debug: bool = False


@dataclass(frozen=True, kw_only=True)
class FrontendOptions:
    """One front-end process. With a supervisor its settings of the moment come over the bus; these hold until then."""

    child: ChildEnvironment
    workers: SocketPlaces | None = None
    """Where workers are found without a supervisor; None: the supervisor says it."""
    settings: Settings = field(default_factory=Settings)
    warnings: tuple[str, ...] = ()
    """What was odd about the settings, one line each, to be logged."""
    debug: bool = False
