"""How large hub models are that were looked up and do not lie here yet: what placing them on GPUs needs to know."""

import json
import os
from pathlib import Path

from appliance.models.hub.files import Selection
from appliance.models.hub.reference import HubReference
from appliance.models.sizes import WEIGHT_SUFFIXES

FOLDER = ".sizes"


class KnownSizes:
    """A note for each model beside the store. A note that cannot be written or read is none: it only informs."""

    def __init__(self, root: Path) -> None:
        """`root`: of the store."""
        self._folder = root / FOLDER

    def note(self, reference: HubReference, selection: Selection) -> None:
        """Remember the weights of a reference with its commit. Blocks on the disk."""
        path = self._path(reference)
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            fresh = path.with_suffix(f".{os.getpid()}")
            fresh.write_text(json.dumps({"weights_bytes": weights_of(selection)}))
            fresh.replace(path)
        except OSError:
            return

    def read(self, reference: HubReference) -> int:
        """Bytes of its weights; 0 when nothing is known. Blocks on the disk."""
        try:
            size = json.loads(self._path(reference).read_text())["weights_bytes"]
        except (OSError, ValueError, KeyError, TypeError):
            return 0
        return size if isinstance(size, int) else 0

    def _path(self, reference: HubReference) -> Path:
        return self._folder / f"{str(reference).replace('/', '--')}.json"


def weights_of(selection: Selection) -> int:
    """Bytes of the weight files among those that were chosen."""
    return sum(file.size for file in selection.files if file.path.endswith(WEIGHT_SUFFIXES))
