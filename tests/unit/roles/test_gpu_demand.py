"""What workers need of GPUs, by manifest, engine and engine arguments."""

import pytest

from appliance.core.errors import UsageError
from appliance.core.gpus import GIB, GpuDemand, GpuRequest
from appliance.core.instances import ComponentInstance
from appliance.roles.node.gpu_demand import gpu_demand, tensor_parallel_args

NONE = GpuRequest()


def instance(engine: str | None, *pairs: str, gpus: GpuRequest = NONE, verb: str = "worker") -> ComponentInstance:
    argv = [verb, *(["--engine", engine] if engine else []), "--model", "/m"]
    for pair in pairs:
        argv += ["--engine-arg", pair]
    return ComponentInstance(
        graph="g", component="w", index=0, type="worker", argv=tuple(argv), gpus=gpus, spec_hash="x"
    )


def demand(one: ComponentInstance, weights_gib: float = 10) -> GpuDemand | None:
    return gpu_demand(one, lambda _: int(weights_gib * GIB))


def must(one: ComponentInstance, weights_gib: float = 10) -> GpuDemand:
    found = demand(one, weights_gib)
    assert found is not None
    return found


@pytest.mark.parametrize("engine", [None, "auto", "llamacpp", "mocker", "remote"])
def test_engines_that_run_without(engine: str | None) -> None:
    assert demand(instance(engine)) is None
    assert demand(instance(engine, "gpu_layers=0")) is None


def test_other_roles_get_none() -> None:
    assert demand(instance(None, gpus=GpuRequest(count=1), verb="frontend")) is None


@pytest.mark.parametrize("engine", ["vllm", "sglang", "trtllm"])
def test_engines_that_need_one(engine: str) -> None:
    found = must(instance(engine))
    assert (found.count, found.shared, found.memory_bytes) == (None, False, 13 * GIB)
    assert found.at_least is not None
    unknown = must(instance(engine), weights_gib=0)
    assert (unknown.count, unknown.memory_bytes) == (1, 0)


@pytest.mark.parametrize("pair", ["url=http://127.0.0.1:9", "device=cpu"])
def test_engines_that_compute_elsewhere(pair: str) -> None:
    assert demand(instance("vllm", pair)) is None


def test_a_command_of_the_user_may_be_a_build_for_the_cpu() -> None:
    assert must(instance("vllm", "command=mine serve")).may_do_without
    assert not must(instance("vllm")).may_do_without


def test_split_engines() -> None:
    assert must(instance("vllm", "tensor-parallel-size=4")).count == 4
    assert must(instance("sglang", "tp=2", "pp_size=2")).count == 4
    assert must(instance("vllm", "tensor_parallel=8", "tensor_parallel_size=8")).count == 8
    assert must(instance("vllm", gpus=GpuRequest(count=2))).count == 2
    with pytest.raises(UsageError, match="g/w asks for 2 GPUs, and its engine arguments need 4"):
        demand(instance("vllm", "tp=4", gpus=GpuRequest(count=2)))


def test_a_share_of_a_gpu() -> None:
    found = must(instance("vllm", "gpu-memory-utilization=0.4"))
    assert (found.shared, found.share, found.memory_bytes) == (True, 0.4, 13 * GIB)
    assert not must(instance("vllm", "gpu-memory-utilization=0.9")).shared
    assert not must(instance("sglang", "mem-fraction-static=much")).shared
    by_manifest = must(instance("vllm", gpus=GpuRequest(count=1, memory_share=0.25)))
    assert (by_manifest.shared, by_manifest.share) == (True, 0.25)
    amount = must(instance("mocker", gpus=GpuRequest(count=2, memory_bytes=5 * GIB)))
    assert (amount.shared, amount.share, amount.memory_bytes, amount.count) == (True, None, 10 * GIB, 2)


def test_layers_of_the_embedded_engine_take_what_they_need() -> None:
    found = must(instance("llamacpp", "gpu_layers=99"))
    assert (found.count, found.shared, found.memory_bytes, found.may_do_without) == (1, True, 13 * GIB, False)


def test_the_mocker_does_without_where_there_is_none() -> None:
    found = must(instance("mocker", gpus=GpuRequest(count=1)))
    assert (found.may_do_without, found.memory_bytes, found.shared) == (True, 0, False)


def test_a_worker_on_several_is_told_so_unless_it_says_itself() -> None:
    assert tensor_parallel_args(instance("vllm"), 2) == ("--engine-arg", "tensor_parallel_size=2")
    assert tensor_parallel_args(instance("sglang"), 4) == ("--engine-arg", "tp_size=4")
    assert tensor_parallel_args(instance("vllm"), 1) == ()
    assert tensor_parallel_args(instance("vllm", "tp=2"), 2) == ()
    assert tensor_parallel_args(instance("mocker"), 2) == ()
