"""What `doctor` says of engines on the GPUs that are there."""

from dataclasses import replace

import pytest

from appliance.core.gpus import GpuScan
from appliance.roles.doctor.gpu_checks import judge_engines
from tests.helpers.gpus import make_gpu, make_scan


def scan(driver: str, capability: tuple[int, int]) -> GpuScan:
    return replace(make_scan(replace(make_gpu(0), compute_capability=capability)), driver_version=driver)


@pytest.mark.parametrize(
    ("driver", "capability", "levels", "told"),
    [
        ("580.65.06", (9, 0), ["ok", "ok", "ok"], "fits"),
        ("470.82", (9, 0), ["warn", "ok", "ok"], "the driver is 470.82"),
        ("580.65.06", (6, 1), ["warn", "ok", "ok"], "the best GPU here has 6.1"),
    ],
)
def test_an_engine_that_is_installed_and_does_not_fit_is_a_warning(
    driver: str, capability: tuple[int, int], levels: list[str], told: str
) -> None:
    found = list(judge_engines(scan(driver, capability), {"vllm": "0.33.0"}))
    assert [finding.level for finding in found] == levels
    assert found[0].text.startswith("vllm 0.33.0 is installed; it wants driver 525.60")
    assert found[0].text.endswith(told)
    assert found[1].text.startswith("sglang is not installed")
