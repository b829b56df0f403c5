"""GPUs for tests that need neither driver nor library."""

from collections.abc import Iterable, Mapping, Sequence

from appliance.core.gpus import GIB, Gpu, GpuHealth, GpuLink, GpuProcess, GpuScan, MigDevice


def make_gpu(
    index: int,
    *,
    total: int = 80,
    used: float = 0,
    name: str = "H100",
    capability: tuple[int, int] | None = (9, 0),
    island: Iterable[int] = (),
    near: Mapping[int, int] | None = None,
    processes: Sequence[tuple[int, float | None]] | None = (),
    parts: int = 0,
    health: GpuHealth = GpuHealth.OK,
) -> Gpu:
    """A GPU called `GPU-<index>`; memory in GiB. `island`: indexes joined by NVLink; `near`: PCIe distance by index."""
    distances = dict(near or {})
    peers = sorted((set(island) | set(distances)) - {index})
    return Gpu(
        index=index,
        uuid=f"GPU-{index}",
        name=name,
        memory_total=total * GIB,
        memory_used=int(used * GIB),
        compute_capability=capability,
        links=tuple(
            GpuLink(peer=f"GPU-{peer}", nvlink=peer in set(island), pcie_distance=distances.get(peer)) for peer in peers
        ),
        processes=None
        if processes is None
        else tuple(
            GpuProcess(pid=pid, memory_bytes=None if amount is None else int(amount * GIB)) for pid, amount in processes
        ),
        mig_enabled=parts > 0,
        mig_devices=tuple(
            MigDevice(uuid=f"MIG-{index}-{part}", name="MIG 1g.10gb", memory_total=10 * GIB, memory_used=0)
            for part in range(parts)
        ),
        health=health,
        reason="" if health is GpuHealth.OK else "the driver has lost it",
    )


def make_scan(*gpus: Gpu) -> GpuScan:
    """A look that found these."""
    return GpuScan(gpus=gpus, driver_version="580.65.06", cuda_version=(13, 0))


def board(count: int = 8, **facts: float) -> GpuScan:
    """Equal GPUs, each joined with each."""
    return make_scan(*(make_gpu(index, island=range(count), **facts) for index in range(count)))  # type: ignore[arg-type]  # figures only
