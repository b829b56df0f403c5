"""Exit reasons in words."""

from pathlib import Path

import pytest

from appliance.supervision.exits import ExitReason, OomCounter, explain_exit


@pytest.mark.parametrize(
    ("code", "tail", "expected"),
    [
        (0, ["MemoryError"], "exit"),
        (3, [], "exit"),
        (-11, [], "signal"),
        (-64, [], "signal"),
        (1, ["terminate called", "std::bad_alloc"], "out_of_memory"),
        (1, ["torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB"], "out_of_memory"),
        (-6, ["OSError: [Errno 98] Address already in use"], "port_taken"),
        (1, ["llama_model_load: error loading model: invalid magic"], "bad_model"),
        (1, ["FileNotFoundError: [Errno 2] No such file or directory: '/m.gguf'"], "missing_file"),
        (127, ["vllm: error while loading shared libraries: libcudart.so.12"], "broken_install"),
        (1, ["ModuleNotFoundError: No module named 'vllm'"], "broken_install"),
    ],
)
def test_code_of_the_reason(code: int, tail: list[str], expected: str) -> None:
    assert explain_exit(code, tail).code == expected


def test_words() -> None:
    assert explain_exit(-11, []).text == "it was ended by SIGSEGV (segmentation fault)"
    assert explain_exit(137, []).text == "it ended with exit code 137 (its child was ended by SIGKILL)"
    assert explain_exit(0, []).text == "it ended by itself without an error"


def test_a_kill_counts_as_out_of_memory_only_with_evidence() -> None:
    assert explain_exit(-9, []).code == "signal"
    assert explain_exit(-9, [], oom_kills=1).code == "out_of_memory"
    assert explain_exit(-15, [], oom_kills=1).code == "signal"


def test_what_the_child_said_wins() -> None:
    said = ExitReason("bad_model", "the model file is truncated", final=True)
    assert explain_exit(-9, ["MemoryError"], said=said, oom_kills=3) is said


def test_old_output_is_not_searched() -> None:
    assert explain_exit(1, ["MemoryError", *["fine"] * 100]).code == "exit"


def test_output_is_never_quoted() -> None:
    assert "/secret" not in explain_exit(1, ["No such file or directory: '/secret/m.gguf'"]).text


@pytest.fixture
def machine(tmp_path: Path) -> OomCounter:
    (tmp_path / "proc/self").mkdir(parents=True)
    return OomCounter(tmp_path / "proc", tmp_path / "cgroup")


def test_oom_counter_reads_the_unified_hierarchy(machine: OomCounter) -> None:
    (machine.proc / "self/cgroup").write_text("0::/box\n")
    (machine.groups / "box").mkdir(parents=True)
    (machine.groups / "box/memory.events").write_text("low 0\nhigh 3\nmax 7\noom 5\noom_kill 4\n")
    assert machine.read() == 4


def test_oom_counter_reads_the_old_hierarchy(machine: OomCounter) -> None:
    (machine.proc / "self/cgroup").write_text("4:cpu,memory:/box\n0::/\n")
    (machine.groups / "memory/box").mkdir(parents=True)
    (machine.groups / "memory/box/memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n")
    assert machine.read() == 2


def test_oom_counter_falls_back_to_the_machine_and_to_nothing(machine: OomCounter) -> None:
    assert machine.read() == 0
    (machine.proc / "vmstat").write_text("nr_free_pages 1\noom_kill 9\n")
    assert machine.read() == 9
