"""Typed views of `DynamoGraphDeployment` v1alpha1, only to refuse wrong shapes before a conversion looks inside."""

from typing import Any

import msgspec

from appliance.graph.problem import Problem
from appliance.graph.schema import Container, EnvVar, read_part


class AlphaView(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Base of these views; unknown members are passed over."""


class AlphaAmounts(AlphaView, frozen=True):
    """Resource amounts; all other members are plain names."""

    gpu: str | int = ""
    gpu_type: str = ""
    custom: dict[str, Any] = {}


class AlphaResources(AlphaView, frozen=True):
    """Resources of a service."""

    limits: AlphaAmounts = AlphaAmounts()
    requests: AlphaAmounts = AlphaAmounts()


class AlphaMount(AlphaView, frozen=True):
    """A volume mount."""

    name: str
    mount_point: str = ""


class AlphaMemory(AlphaView, frozen=True):
    """Shared memory."""

    disabled: bool = False
    size: str | int = ""


class AlphaFeature(AlphaView, frozen=True):
    """A feature with a switch."""

    enabled: bool = False
    mode: str = ""


class AlphaPodMetadata(AlphaView, frozen=True):
    """Metadata of the pods."""

    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class AlphaPodSpec(AlphaView, frozen=True):
    """Pod fields beside the dedicated ones."""

    main_container: Container | None = None
    containers: list[Container] = []


class AlphaService(AlphaView, frozen=True):
    """The members of a service that the conversion takes apart."""

    component_type: str = ""
    sub_component_type: str = ""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    envs: list[EnvVar] = []
    env_from_secret: str = ""
    resources: AlphaResources = AlphaResources()
    volume_mounts: list[AlphaMount] = []
    shared_memory: AlphaMemory = AlphaMemory()
    extra_pod_metadata: AlphaPodMetadata = AlphaPodMetadata()
    extra_pod_spec: AlphaPodSpec = AlphaPodSpec()
    scaling_adapter: AlphaFeature = AlphaFeature()
    gpu_memory_service: AlphaFeature = AlphaFeature()
    failover: AlphaFeature = AlphaFeature()
    checkpoint: AlphaFeature = AlphaFeature()


class AlphaSpec(AlphaView, frozen=True):
    """The members of a spec that the conversion takes apart."""

    envs: list[EnvVar] = []
    services: dict[str, dict[str, Any]] = {}


def check_alpha_shape(spec: dict[str, Any]) -> list[Problem]:
    """One problem per service whose shape is wrong, or one for the spec itself. `spec` is without nulls."""
    problems: list[Problem] = []
    services = spec.get("services", {})
    for name, service in services.items() if isinstance(services, dict) else ():
        read_part(service, AlphaService, f"spec.services.{name}", problems)
    if not problems:
        read_part(spec, AlphaSpec, "spec", problems)
    return problems
