"""GPUs as `status` and `/metrics` show them."""

from typing import Any

from appliance.core.gpus import Gpu, GpuHealth
from appliance.hardware.machine import MachineFacts
from appliance.supervision.gpu_ledger import GpuLedger
from appliance.supervision.gpu_places import Place
from appliance.telemetry.cells import Metrics

Object = dict[str, Any]


def describe_gpus(ledger: GpuLedger) -> list[Object]:
    """One entry per GPU, lost ones too."""
    if ledger.scan is None:
        return []
    places = ledger.places()
    return [_describe(gpu, [place for place in places if place.index == gpu.index], ledger) for gpu in ledger.scan.gpus]


def describe_hardware(ledger: GpuLedger, machine: MachineFacts) -> Object:
    """CPU, memory, disk, driver, and what is wrong with the GPUs as a whole."""
    scan = ledger.fault or ledger.scan
    driver = ledger.scan.driver_version if ledger.scan else None
    cuda = ledger.scan.cuda_version if ledger.scan else None
    return {
        "cpus": machine.cpus,
        "memory_total": machine.memory_total,
        "memory_available": machine.memory_available,
        "disk_free": machine.disk_free,
        "gpu_driver": driver,
        "cuda": _dotted(cuda),
        "gpu_fault": scan.fault.value if scan and scan.fault else None,
        "gpu_message": scan.message if scan else "",
        "gpu_defect": bool(scan and scan.fault and scan.fault.is_defect),
    }


def add_gpu_metrics(metrics: Metrics, ledger: GpuLedger) -> None:
    """The gauges of each GPU; what the driver does not tell is left out."""
    places = ledger.places()
    for gpu in ledger.scan.gpus if ledger.scan else ():
        where = str(gpu.index), gpu.uuid
        own = [place for place in places if place.index == gpu.index]
        gauges = {
            "memory_used_bytes": gpu.memory_used,
            "memory_total_bytes": gpu.memory_usable,
            "memory_promised_bytes": _promised(own),
            "utilization_ratio": None if gpu.utilisation is None else gpu.utilisation / 100,
            "temperature_celsius": gpu.temperature_c,
            "power_watts": gpu.power_w,
            "healthy": int(gpu.health is GpuHealth.OK),
        }
        for name, value in gauges.items():
            if value is not None:
                metrics.cell(f"appliance_gpu_{name}", *where).set(value)
        for place in own:
            for use in ledger.usage(place.uuid):
                metrics.cell("appliance_gpu_owner", *where, use.worker).add()


def _describe(gpu: Gpu, places: list[Place], ledger: GpuLedger) -> Object:
    return {
        "index": gpu.index,
        "uuid": gpu.uuid,
        "name": gpu.name,
        "sku": gpu.sku,
        "health": gpu.health.value,
        "reason": gpu.reason or next((place.unusable for place in places if place.unusable), ""),
        "memory_total": gpu.memory_usable,
        "memory_used": gpu.memory_used,
        "memory_promised": _promised(places),
        "memory_foreign": sum(place.foreign for place in places),
        "utilisation": gpu.utilisation,
        "power_w": gpu.power_w,
        "temperature_c": gpu.temperature_c,
        "compute_capability": _dotted(gpu.compute_capability),
        "architecture": gpu.architecture,
        "pci_bus_id": gpu.pci_bus_id,
        "numa_node": gpu.numa_node,
        "persistence": gpu.persistence,
        "nvlinks": gpu.nvlinks,
        "nvlink_peers": [link.peer for link in gpu.links if link.nvlink],
        "mig_devices": [
            {"uuid": part.uuid, "name": part.name, "memory_total": part.memory_total, "memory_used": part.memory_used}
            for part in gpu.mig_devices
        ],
        "workers": [
            {
                "id": use.worker,
                "instance": use.owner,
                "uuid": place.uuid,
                "promised": use.promised_bytes,
                "used": use.used_bytes,
                "loading": use.loading,
            }
            for place in places
            for use in ledger.usage(place.uuid)
        ],
    }


def _promised(places: list[Place]) -> int:
    return sum(amount for place in places for _, amount in place.promised)


def _dotted(version: tuple[int, int] | None) -> str | None:
    return f"{version[0]}.{version[1]}" if version else None
