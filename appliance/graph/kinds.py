"""The resource kinds by their names: kind, plural, short name, versions."""

from dataclasses import dataclass

from appliance.core.errors import NotFound
from appliance.graph.problem import nearest

GROUP = "nvidia.com"
ALPHA = "nvidia.com/v1alpha1"
BETA = "nvidia.com/v1beta1"
DGD = "DynamoGraphDeployment"


@dataclass(frozen=True)
class Kind:
    """One kind and every way to write it."""

    kind: str
    short: str
    versions: tuple[str, ...]
    """apiVersions of the published schema, newest first."""
    on_box: bool = False
    """Whether a box can store it."""

    @property
    def singular(self) -> str:
        return self.kind.lower()

    @property
    def plural(self) -> str:
        return self.singular + "s"


KINDS = (
    Kind(DGD, "dgd", (BETA, ALPHA), on_box=True),
    Kind("DynamoComponentDeployment", "dcd", (BETA, ALPHA)),
    Kind("DynamoGraphDeploymentScalingAdapter", "dgdsa", (BETA, ALPHA)),
    Kind("DynamoGraphDeploymentRequest", "dgdr", (BETA, ALPHA)),
    Kind("DynamoModel", "dm", (ALPHA,)),
    Kind("DynamoCheckpoint", "dckpt", (ALPHA,)),
    Kind("DynamoWorkerMetadata", "dwm", (ALPHA,)),
)


def resolve_kind(name: str) -> Kind:
    """The kind behind a kind, singular, plural or short name in any case. Raises `NotFound` with the nearest one."""
    wanted = name.lower()
    for kind in KINDS:
        if wanted in (kind.singular, kind.plural, kind.short, f"{kind.plural}.{GROUP}"):
            return kind
    names = [text for kind in KINDS for text in (kind.singular, kind.short)]
    raise NotFound(f"no kind is called {name!r}; {nearest(name, names)}")
