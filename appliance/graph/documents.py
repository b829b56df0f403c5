"""Manifests and stored objects as two forms of one thing: conversion, defaults, and the edits we make."""

import copy
from datetime import UTC, datetime
from typing import Any

from appliance.core.errors import NotFound, Unprocessable
from appliance.core.records import StoredObject
from appliance.graph.problem import nearest

SERVER_FIELDS = ("name", "generation", "resourceVersion", "creationTimestamp", "managedFields", "uid", "selfLink")
"""Members of metadata that the store owns."""


def stored_object(document: dict[str, Any]) -> StoredObject:
    """The object to put for a manifest. Its `resourceVersion`, if any, makes the put conditional.

    Raises `Unprocessable` when the manifest has no usable metadata or spec.
    """
    metadata = document.get("metadata")
    if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str):
        raise Unprocessable("metadata.name: must be a name")
    spec = document.get("spec")
    if not isinstance(spec, dict):
        raise Unprocessable("spec: must be an object")
    return StoredObject(
        kind=str(document.get("kind", "")),
        name=metadata["name"],
        api_version=str(document.get("apiVersion", "")),
        metadata={key: value for key, value in metadata.items() if key not in SERVER_FIELDS},
        spec=copy.deepcopy(spec),
        resource_version=_version(metadata.get("resourceVersion")),
    )


def document_of(obj: StoredObject) -> dict[str, Any]:
    """The manifest of a stored object, as `get -o yaml` shows it; status only when there is one."""
    metadata: dict[str, Any] = {"name": obj.name, **copy.deepcopy(obj.metadata)}
    if obj.resource_version:
        metadata["creationTimestamp"] = timestamp(obj.created_at)
        metadata["generation"] = obj.generation
        metadata["resourceVersion"] = str(obj.resource_version)
    document = {"apiVersion": obj.api_version, "kind": obj.kind, "metadata": metadata, "spec": copy.deepcopy(obj.spec)}
    if obj.status:
        document["status"] = copy.deepcopy(obj.status)
    return document


def with_defaults(document: dict[str, Any]) -> dict[str, Any]:
    """A copy in which every component has `replicas`, as admission in a cluster does."""
    filled = copy.deepcopy(document)
    spec = filled.get("spec")
    components = spec.get("components") if isinstance(spec, dict) else None
    for component in components if isinstance(components, list) else []:
        if isinstance(component, dict) and component.get("replicas") is None:
            component["replicas"] = 1
    return filled


def scale_component(document: dict[str, Any], component: str, replicas: int) -> dict[str, Any]:
    """A copy with another replica count. Raises `NotFound` naming the nearest component, `Unprocessable` below 0."""
    if replicas < 0:
        raise Unprocessable(f"replicas: must be 0 or more, not {replicas}", param="replicas")
    scaled = copy.deepcopy(document)
    components = scaled["spec"]["components"]
    for item in components:
        if item["name"].lower() == component.lower():
            item["replicas"] = replicas
            return scaled
    name = scaled["metadata"]["name"]
    raise NotFound(
        f"graph {name} has no component {component}; " + nearest(component, [one["name"] for one in components])
    )


def timestamp(unix_s: float) -> str:
    """Unix seconds in the form that Kubernetes writes."""
    return datetime.fromtimestamp(int(unix_s), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _version(text: object) -> int:
    if text is None or text == "":
        return 0
    if isinstance(text, str) and text.isascii() and text.isdigit():
        return int(text)
    raise Unprocessable(f"metadata.resourceVersion: {text!r} is no version of ours")
