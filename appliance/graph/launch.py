"""What a component of a graph becomes on a box: argv and environment of its processes, or the reasons why not."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from appliance.core.gpus import GpuRequest
from appliance.core.instances import ResidenceWish
from appliance.graph.arguments import NotRunnable, expand_references, flag_value, map_command
from appliance.graph.gpu_resources import read_gpus
from appliance.graph.problem import Problem, errors_of, warning
from appliance.graph.residence import read_residence
from appliance.graph.schema import Component, Container, EnvVar
from appliance.graph.split_roles import with_split_role

DEFAULT_ARGV = {"frontend": ("frontend",), "planner": ("planner",)}
"""What runs when a component of a type names no command."""


@dataclass(frozen=True)
class Launch:
    """How to start a component's processes."""

    argv: tuple[str, ...]
    env: dict[str, str]
    gpus: GpuRequest = field(default_factory=GpuRequest)
    residence: ResidenceWish = field(default_factory=ResidenceWish)

    @property
    def engine(self) -> str:
        """The engine of a worker; empty for other roles and when it is to be found out."""
        named = flag_value(self.argv, "--engine") if self.argv[0] == "worker" else None
        return "" if named in (None, "auto") else str(named)


def plan_launch(component: Component, graph_env: Sequence[EnvVar], path: str) -> tuple[Launch | None, list[Problem]]:
    """The launch of a component whose field path is `path`; None when a box cannot run it."""
    if component.type == "epp":
        return None, [warning(f"{path}.type", "a box runs no endpoint picker; its front end places requests")]
    main = component.main or Container()
    at = f"{path}.podTemplate.spec.containers[{_position(component)}]"
    env, problems = merge_env(graph_env, "spec.env", main.env, f"{at}.env")
    gpus, wrong = read_gpus(main, at)
    problems += wrong
    residence, wrong = read_residence(component, path)
    problems += wrong
    try:
        argv = _argv(component, main, env)
    except NotRunnable as reason:
        return None, [*problems, Problem(_blame(component, main, path, at), str(reason))]
    argv, unfitting = with_split_role(argv, component.type, path)
    problems += unfitting
    return (None if errors_of(problems) else Launch(argv, env, gpus, residence)), problems


def merge_env(
    outer: Sequence[EnvVar], outer_path: str, inner: Sequence[EnvVar], inner_path: str
) -> tuple[dict[str, str], list[Problem]]:
    """Variables of the graph, then of the container, which win; a later value may refer to an earlier variable."""
    env: dict[str, str] = {}
    problems: list[Problem] = []
    overridden = {variable.name for variable in inner}
    named = [(variable, f"{outer_path}[{at}]") for at, variable in enumerate(outer) if variable.name not in overridden]
    named += [(variable, f"{inner_path}[{at}]") for at, variable in enumerate(inner)]
    for variable, path in named:
        if variable.value_from is not None:
            source = next(iter(variable.value_from), "valueFrom")
            problems.append(Problem(f"{path}.valueFrom", f"a box has no {source}; give {variable.name} a plain value"))
        env[variable.name] = expand_references(variable.value, env)
    return env, problems


def _argv(component: Component, main: Container, env: dict[str, str]) -> tuple[str, ...]:
    if component.containers and component.main is None:
        raise NotRunnable("needs a container called main; a box runs no other")
    command = [expand_references(word, env) for word in main.command]
    args = [expand_references(word, env) for word in main.args]
    default = DEFAULT_ARGV.get(component.type)
    if not command and default and (not args or args[0].startswith("-")):
        return (*default, *args)
    return map_command(command, args)


def _position(component: Component) -> int:
    return next((at for at, one in enumerate(component.containers) if one.name == "main"), 0)


def _blame(component: Component, main: Container, path: str, container_path: str) -> str:
    if component.main is None:
        return f"{path}.podTemplate"
    return f"{container_path}.{'command' if main.command else 'args'}"
