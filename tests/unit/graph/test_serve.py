"""The graph that `serve` writes is valid, runs, and names its components well."""

from appliance.graph.admission import admit_graph
from appliance.graph.instances import instances
from appliance.graph.serve import ServeModel, build_serve_graph, worker_args


def names(*models: ServeModel) -> list[str]:
    return [item["name"] for item in build_serve_graph(models)["spec"]["components"]]


def test_single_model_is_served_by_the_component_worker() -> None:
    document = build_serve_graph([ServeModel(model="/m/x.gguf", engine="llamacpp", replicas=2)])
    admitted, problems = admit_graph(document, None)
    assert problems == []
    made = instances(admitted)
    assert [one.key for one in made] == ["serve/frontend/0", "serve/worker/0", "serve/worker/1"]
    assert made[1].argv == ("worker", "--engine", "llamacpp", "--model", "/m/x.gguf")
    assert made[0].argv == ("frontend",)


def test_every_option_becomes_its_flag() -> None:
    model = ServeModel(
        model="org/name",
        engine="mocker",
        served_name="n",
        context_length=4096,
        task="embed",
        engine_args={"a": "1", "b": "x=y"},
        tool_call_parser="hermes",
        reasoning_parser="think",
    )
    assert worker_args(model) == [
        *("worker", "--engine", "mocker", "--model", "org/name", "--served-model-name", "n"),
        *("--context-length", "4096", "--task", "embed", "--engine-arg", "a=1", "--engine-arg", "b=x=y"),
        *("--tool-call-parser", "hermes", "--reasoning-parser", "think"),
    ]


def test_values_with_references_and_spaces_reach_the_worker_as_they_are() -> None:
    # A path may hold what a manifest would take for a variable.
    model = ServeModel(model="/m/$(HOME) $$ x.gguf")
    admitted, _ = admit_graph(build_serve_graph([model]), None)
    assert instances(admitted)[1].argv[-1] == "/m/$(HOME) $$ x.gguf"


def test_several_models_name_their_components_and_names_differ() -> None:
    models = [
        ServeModel(model="/m/Qwen3-0.6B.gguf"),
        ServeModel(model="/other/qwen3_0.6b.gguf"),
        ServeModel(model="x", served_name="frontend"),
        ServeModel(model="/m/模型.gguf"),
        ServeModel(model="/m/" + "long" * 30),
    ]
    found = names(*models)
    assert found == ["frontend", "qwen3-0-6b", "qwen3-0-6b-2", "frontend-2", "worker", ("long" * 30)[:50]]
    admit_graph(build_serve_graph(models), None)


def test_frontend_takes_its_own_replicas_and_args() -> None:
    document = build_serve_graph([], name="other", frontends=2, frontend_args=["--x"])
    admitted, _ = admit_graph(document, None)
    assert [one.argv for one in instances(admitted)] == [("frontend", "--x")] * 2


def test_split_model_has_a_component_for_each_half() -> None:
    document = build_serve_graph([ServeModel(model="/m/x.gguf", engine="llamacpp", prefill=1, decode=2)])
    admitted, problems = admit_graph(document, None)
    assert problems == []
    made = instances(admitted)[1:]
    assert [one.key for one in made] == ["serve/prefill/0", "serve/decode/0", "serve/decode/1"]
    assert [one.type for one in made] == ["prefill", "decode", "decode"]
    worker = ("worker", "--engine", "llamacpp", "--model", "/m/x.gguf", "--disaggregation-mode")
    assert [one.argv for one in made] == [(*worker, "prefill"), (*worker, "decode"), (*worker, "decode")]


def test_several_split_models_keep_their_names() -> None:
    models = [ServeModel(model=f"/m/{name}.gguf", prefill=1, decode=1) for name in ("one", "two")]
    assert names(*models) == ["frontend", "one-prefill", "one-decode", "two-prefill", "two-decode"]
    admit_graph(build_serve_graph(models), None)
