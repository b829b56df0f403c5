"""Puts the native code into a wheel, which then is for one Python and platform; without a compiler it stays pure."""

import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class NativeCode(BuildHookInterface[Any]):
    """Called by hatchling. An editable install needs nothing: it uses what lies in the checkout."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and say what the wheel gets besides the files that git knows."""
        if version != "standard":
            return
        subprocess.run([sys.executable, "build/native.py"], cwd=self.root, check=True)
        compiled = f"appliance/*/native/*{sysconfig.get_config_var('EXT_SUFFIX')}"
        if any(Path(self.root).glob(compiled)):
            build_data.update(pure_python=False, infer_tag=True, artifacts=[compiled])
