"""Models of GPUs by what is known of them."""

import pytest

from appliance.hardware.sku import KNOWN, find_sku


@pytest.mark.parametrize(
    ("device", "name", "nvlinks", "sku"),
    [
        (0x2330, "NVIDIA H100 80GB HBM3", None, "h100_sxm"),  # by its id: the name does not say that it is a module
        (0x2321, "NVIDIA H100 NVL", 12, "h100_pcie"),
        (0x2342, "NVIDIA GH200 480GB", 18, None),
        (None, "NVIDIA H100 80GB HBM3", 18, "h100_sxm"),
        (None, "NVIDIA H100 80GB HBM3", None, None),
        (None, "NVIDIA-H100-PCIe", None, "h100_pcie"),
        (None, "NVIDIA H200", 18, "h200_sxm"),
        (None, "NVIDIA H200", None, None),
        (None, "NVIDIA H200 NVL", None, None),
        (None, "NVIDIA H20", 18, None),
        (None, "NVIDIA A100-SXM4-80GB", None, "a100_sxm"),
        (None, "NVIDIA A100 80GB PCIe", None, "a100_pcie"),
        (None, "NVIDIA A10", None, None),
        (None, "NVIDIA A30", None, "a30"),
        (None, "NVIDIA L4", None, "l4"),
        (None, "NVIDIA L40", None, "l40"),
        (None, "NVIDIA L40S", None, "l40s"),
        (None, "NVIDIA GB200", None, "gb200_sxm"),
        (None, "NVIDIA B200", None, "b200_sxm"),
        (None, "Tesla V100-SXM2-16GB", None, "v100_sxm"),
        (None, "Tesla V100-PCIE-16GB", None, "v100_pcie"),
        (None, "Tesla V100", 6, "v100_sxm"),
        (None, "Tesla T4", None, "t4"),
        (0x9999, "NVIDIA GeForce RTX 4090", None, None),
    ],
)
def test_sku(device: int | None, name: str, nvlinks: int | None, sku: str | None) -> None:
    assert find_sku(device, name, nvlinks) == sku
    assert sku is None or sku in KNOWN
