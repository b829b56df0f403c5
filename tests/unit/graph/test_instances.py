"""What a graph asks a box to run: argv, environment, hash."""

from typing import Any

import pytest

from appliance.core.errors import Unprocessable
from appliance.core.instances import ComponentInstance
from appliance.graph.admission import admit_graph
from appliance.graph.arguments import map_worker_args
from appliance.graph.check import check_graph
from appliance.graph.documents import stored_object, with_defaults
from appliance.graph.instances import instances
from tests.helpers.graphs import example, graph, worker


def run(document: dict[str, Any]) -> list[ComponentInstance]:
    return instances(stored_object(with_defaults(document)))


def argv(command: list[str], args: list[str], **fields: Any) -> tuple[str, ...]:
    return run(graph(worker(command=command, args=args, **fields)))[0].argv


def test_replicas_become_instances_in_graph_order() -> None:
    made = run(example("mocker"))
    assert [one.key for one in made] == ["mocker/frontend/0", "mocker/worker/0", "mocker/worker/1"]
    assert made[0].argv == ("frontend",)
    assert made[1].env == {"LOG_LEVEL": "debug"}
    assert made[0].env == {"LOG_LEVEL": "info"}
    assert made[1].argv == (
        *("worker", "--engine", "mocker", "--model", "demo/model"),
        *("--served-model-name", "demo", "--engine-arg", "max-num-seqs=8"),
    )


def test_own_words_stay_as_they_are_and_variables_are_filled_in() -> None:
    made = run(example("two-models"))
    assert made[1].argv[:5] == ("worker", "--engine", "llamacpp", "--model", "/models/chat.gguf")
    assert "/models/embed.gguf" in made[2].argv


@pytest.mark.parametrize(
    ("command", "args", "expected"),
    [
        ([], ["worker", "--engine", "mocker"], ("worker", "--engine", "mocker")),
        (["/opt/dynamo-appliance", "worker"], ["--a"], ("worker", "--a")),
        (["python3", "-u", "-m", "dynamo.frontend"], ["--http-port", "1"], ("frontend", "--http-port", "1")),
        (["/usr/bin/python3.11", "-m"], ["dynamo.planner", "--x"], ("planner", "--x")),
        (["python", "-m", "appliance"], ["router"], ("router",)),
        (
            ["python3", "-m", "dynamo.sglang", "--model-path=m", "--dyn-tool-call-parser", "hermes"],
            ["--tp", "-1", "--flag", "--list", "1", "2"],
            (
                *("worker", "--engine", "sglang", "--model", "m", "--tool-call-parser", "hermes"),
                *("--engine-arg", "tp=-1", "--engine-arg", "flag=true", "--engine-arg", "list=1 2"),
            ),
        ),
    ],
)
def test_commands_become_our_words(command: list[str], args: list[str], expected: tuple[str, ...]) -> None:
    assert argv(command, args) == expected


@pytest.mark.parametrize(
    ("command", "args", "field", "reason"),
    [
        (["/bin/sh", "-c"], ["python3 -m dynamo.vllm"], "command", "a shell does not run on a box"),
        ([], ["python3 -m dynamo.vllm --model x"], "args", "a shell line does not run on a box"),
        (["/entry.sh"], [], "command", "cannot run '/entry.sh' on a box"),
        (["python3", "-c", "1"], [], "command", "cannot run Python code"),
        (["python3", "-m", "dynamo.nova"], [], "command", "cannot run the module dynamo.nova on a box; known: dynamo."),
        (["python3", "-m", "dynamo.vllm", "stray"], [], "command", "the first argument 'stray' is no flag"),
        ([], ["serve"], "args", "'serve' is no role; known: frontend"),
        ([], ["worker", "--engine", "nova"], "args", "'nova' is no engine; known: auto"),
        ([], [], "args", "needs args that name a role"),
    ],
)
def test_what_no_box_runs_is_refused_by_field(command: list[str], args: list[str], field: str, reason: str) -> None:
    with pytest.raises(Unprocessable) as caught:
        argv(command, args)
    path = f"spec.components[0].podTemplate.spec.containers[0].{field}"
    assert str(caught.value).startswith(f"graph g is not valid: {path}: {reason}")


def test_worker_without_main_container_is_refused() -> None:
    bare = {"name": "w", "type": "worker"}
    other = worker(podTemplate={"spec": {"containers": [{"name": "side", "args": ["worker"]}]}})
    for component in (bare, other):
        with pytest.raises(Unprocessable, match=r"spec\.components\[0\]\.podTemplate: needs"):
            run(graph(component))


def test_endpoint_picker_gives_no_instance() -> None:
    epp = {"name": "epp", "type": "epp", "eppConfig": {"config": {}}}
    assert [one.component for one in run(graph(epp, worker()))] == ["worker"]


def hash_of(*components: dict[str, Any], **spec: Any) -> str:
    return run(graph(*components, **spec))[0].spec_hash


def test_hash_ignores_replicas_labels_image_and_order() -> None:
    env = [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]
    same = hash_of(worker(env=env))
    assert hash_of(worker(env=env[::-1], replicas=5)) == same
    assert hash_of(worker(env=env), labels={"a": "b"}) == same
    assert hash_of(worker("other", env=env), name="other") == same
    assert hash_of(worker(env=env[1:]), env=env[:1]) == same


def test_hash_changes_with_args_env_type_and_restart() -> None:
    variants = [
        hash_of(worker()),
        hash_of(worker(args=["worker", "--engine", "mocker", "--task", "embed"])),
        hash_of(worker(env=[{"name": "A"}])),
        hash_of(worker(type="decode")),
        hash_of(worker(), restart={"id": "1"}),
        hash_of(worker(), restart={"id": "2"}),
    ]
    assert len(set(variants)) == len(variants)


def test_hash_is_the_same_in_every_process() -> None:
    # A changed value here restarts every worker at an upgrade: be sure that you want that.
    assert hash_of(worker()) == "ed91b4f2eb66b5d9"


def test_older_version_runs_too() -> None:
    admitted, _ = admit_graph(example("alpha"), None)
    frontend, first, second = instances(admitted)
    assert frontend.component == "Frontend"
    assert first.spec_hash == second.spec_hash
    assert first.type == "decode"
    assert first.env == {"SHARED": "service", "ONLY": "main"}
    assert first.argv[-6:-2] == ("--context-length", "4096", "--engine-arg", "enforce-eager=true")
    assert first.argv[-2:] == ("--disaggregation-mode", "decode")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("$(A)-$(NONE)", "1-$(NONE)"), ("$$(A)", "$(A)"), ("$A $", "$A $"), ("$(B)", "1+2")],
)
def test_references_are_replaced_as_a_kubelet_does(text: str, expected: str) -> None:
    env = [{"name": "A", "value": "1"}, {"name": "B", "value": "$(A)+2"}]
    assert argv([], ["worker", "--model", text], env=env)[-1] == expected


@pytest.mark.parametrize(
    ("args", "mode"),
    [
        (["--disaggregation-mode", "prefill"], "prefill"),
        (["--disaggregation-mode=null"], "agg"),
        (["--is-prefill-worker"], "prefill"),
        (["--is-decode-worker"], "decode"),
    ],
)
def test_half_of_a_split_model_keeps_its_role(args: list[str], mode: str) -> None:
    assert map_worker_args(args) == ["--disaggregation-mode", mode]


def words(engine: str, *more: str) -> list[str]:
    return ["worker", "--engine", engine, *more]


@pytest.mark.parametrize("half", ["prefill", "decode"])
@pytest.mark.parametrize("engine", ["auto", "llamacpp", "mocker", "vllm", "sglang"])
def test_a_type_that_is_a_half_gives_the_mode(half: str, engine: str) -> None:
    given = words(engine)
    assert argv([], given, type=half) == (*given, "--disaggregation-mode", half)
    assert argv(["python3", "-m", "dynamo.mocker"], ["--model-path", "m"], type=half)[-2:] == (
        "--disaggregation-mode",
        half,
    )
    assert argv([], given) == tuple(given), "type worker"


@pytest.mark.parametrize(
    ("args", "mode"),
    [
        (["--disaggregation-mode", "decode"], "decode"),
        (["--disaggregation-mode=agg"], "agg"),
        (["--engine-arg", "disaggregation_mode=prefill"], "prefill"),
        (["--engine-arg=disaggregation-mode=null"], "agg"),
        (["--engine-arg", "is-decode-worker=true"], "decode"),
    ],
)
def test_a_mode_in_the_arguments_wins_over_the_type(args: list[str], mode: str) -> None:
    given = words("vllm", *args)
    assert argv([], given, type="prefill") == tuple(given)
    said = [str(problem) for problem in check_graph(graph(worker(args=given, type="prefill")))]
    expected = f"spec.components[0].type: the arguments ask for {mode}, which is what runs"
    assert said == ([] if mode == "prefill" else [expected])


@pytest.mark.parametrize("engine", ["remote", "trtllm"])
def test_engines_without_halves_run_whole_requests(engine: str) -> None:
    given = words(engine)
    assert argv([], given, type="decode") == tuple(given)
    (said,) = check_graph(graph(worker(args=given, type="decode")))
    assert (said.path, said.level) == ("spec.components[0].type", "warning")
    assert f"{engine} runs whole requests" in said.message


def test_a_type_changes_no_other_role() -> None:
    assert argv([], ["router"], type="prefill") == ("router",)
