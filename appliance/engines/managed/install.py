"""Makes a managed environment: built in a `.partial` folder, checked, then renamed. An interrupted one goes on."""

import fcntl
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from appliance.core.errors import CannotStart, Conflict, UsageError
from appliance.engines.managed.catalogue import (
    INSTALLABLE,
    PARTIAL,
    Environment,
    is_in_use,
    list_environments,
    size_bytes,
    write_note,
)
from appliance.engines.managed.programs import Ended, run_program
from appliance.engines.managed.pythons import find_python

INSTALL_LOCK = ".install.lock"
_SPEC = re.compile(r"(?P<engine>[a-z]+)(?:==(?P<version>[A-Za-z0-9][A-Za-z0-9.+!_-]*))?")
_UNREACHABLE = (
    "Temporary failure in name resolution",
    "Failed to establish a new connection",
    "Network is unreachable",
    "Could not fetch URL",
    "Connection refused",
    "error sending request",
    "dns error",
    "Max retries exceeded",
    "Read timed out",
)
_NOT_THERE = ("No matching distribution found", "no version of", "was not found in the package registry")


@dataclass(frozen=True, kw_only=True)
class InstallWish:
    """What to install, and from where."""

    engine: str
    version: str | None = None
    """None: the newest that the index has."""
    index_url: str | None = None
    find_links: tuple[str, ...] = ()
    python: str | None = None

    @property
    def requirement(self) -> str:
        """As pip wants it."""
        return self.engine if self.version is None else f"{self.engine}=={self.version}"


def parse_spec(text: str) -> tuple[str, str | None]:
    """Engine and version of `vllm` or `vllm==0.33.0`. Raises `UsageError`."""
    match = _SPEC.fullmatch(text)
    if match is None or match["engine"] not in INSTALLABLE:
        known = ", ".join(INSTALLABLE)
        raise UsageError(f"cannot install {text!r}; it is one of {known}, as in {INSTALLABLE[0]}==VERSION")
    return match["engine"], match["version"]


class Installer:
    """Installs into one folder of environments. `say` gets what pip or uv does, in words for a person."""

    def __init__(
        self, engines_dir: Path, env: Mapping[str, str], *, own_python: str | None, say: Callable[[str], None]
    ) -> None:
        """`own_python`: the interpreter that runs us, None in the one-file executable."""
        self._dir = engines_dir
        self._env = {**env, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1", "PYTHONUNBUFFERED": "1"}
        self._own_python, self._say = own_python, say
        self._uv = shutil.which("uv", path=env.get("PATH"))

    async def install(self, wish: InstallWish) -> Environment:
        """The new environment, or the one that was there. Cancelled or failed, what has come stays for the next time.

        Raises `UsageError`, `CannotStart` with one line that says why, `Conflict` while another install runs.
        """
        for known in list_environments(self._dir):
            if (known.engine, known.version) == (wish.engine, wish.version):
                self._say(f"{known.name} is installed already")
                return known
        self._dir.mkdir(parents=True, exist_ok=True)
        with self._alone():
            partial = self._dir / f"{wish.engine}-{wish.version or 'newest'}{PARTIAL}"
            await self._make_environment(partial, wish)
            await self._install_packages(partial, wish)
            version = await self._check(partial, wish)
            return self._finish(partial, wish.engine, version)

    async def _make_environment(self, partial: Path, wish: InstallWish) -> None:
        python = partial / "bin" / "python"
        if python.exists():
            self._say(f"going on with {partial.name}")
            return
        if self._uv is not None:
            self._say("making the environment with uv")
            chosen = ["--python", wish.python] if wish.python else []
            ended = await self._run([self._uv, "venv", "--quiet", *chosen, str(partial)])
        else:
            base = await find_python(wish.python, self._own_python, self._env)
            self._say(f"making the environment with {base}")
            ended = await self._run([base, "-m", "venv", str(partial)])
        if ended.code != 0:
            shutil.rmtree(partial, ignore_errors=True)
            raise CannotStart(f"cannot make the environment: {_last(ended)}")

    async def _install_packages(self, partial: Path, wish: InstallWish) -> None:
        python = str(partial / "bin" / "python")
        if self._uv is not None:
            command = [self._uv, "pip", "install", "--python", python]
        else:
            command = [python, "-m", "pip", "install", "--progress-bar", "off"]
        if wish.index_url:
            command += ["--index-url", wish.index_url]
        for place in wish.find_links:
            command += ["--find-links", place]
        ended = await self._run([*command, wish.requirement])
        if ended.code != 0:
            raise CannotStart(_explain(ended, wish))

    async def _check(self, partial: Path, wish: InstallWish) -> str:
        """The version that is installed, if it can be imported."""
        self._say("checking that it can be imported")
        code = f"import importlib.metadata as m, {wish.engine}; print('version', m.version('{wish.engine}'))"
        ended = await self._run([str(partial / "bin" / "python"), "-c", code], quiet=True)
        line = ended.find("version ")
        if ended.code != 0 or line is None:
            raise CannotStart(f"{wish.engine} was installed but cannot be imported: {_last(ended)}")
        return line.split()[-1]

    def _finish(self, partial: Path, engine: str, version: str) -> Environment:
        folder = self._dir / f"{engine}-{version}"
        if folder.exists():
            shutil.rmtree(partial)  # the newest one was there already
        else:
            write_note(partial, engine, version)
            os.rename(partial, folder)
        return Environment(engine=engine, version=version, folder=folder)

    async def _run(self, argv: list[str], *, quiet: bool = False) -> Ended:
        return await run_program(argv, self._env, (lambda _: None) if quiet else self._say)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with (self._dir / INSTALL_LOCK).open("ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Conflict("another `engine install` is running") from None
            yield


def remove_environment(engines_dir: Path, name: str) -> int:
    """Delete an environment by its name, or by its engine's when there is one only; how many bytes that frees.

    Raises `UsageError` for an unknown or ambiguous name, `Conflict` for one that a worker uses.
    """
    known = list_environments(engines_dir)
    found = [one for one in known if one.name == name] or [one for one in known if one.engine == name]
    folder = found[0].folder if len(found) == 1 else _partial(engines_dir, name)
    if folder is None:
        names = ", ".join(one.name for one in known) or "none"
        raise UsageError(f"{'more than one environment is' if found else 'no environment is'} called {name!r}: {names}")
    if is_in_use(folder):
        raise Conflict(f"{folder.name} is in use by a worker; stop it first")
    freed = size_bytes(folder)
    doomed = folder.with_name(f"{folder.name.removesuffix(PARTIAL)}-removed{PARTIAL}")
    os.rename(folder, doomed)  # at once: no half-deleted environment is ever listed
    shutil.rmtree(doomed)
    return freed


def _partial(engines_dir: Path, name: str) -> Path | None:
    folder = engines_dir / name
    return folder if name == folder.name and folder.suffix == PARTIAL and folder.is_dir() else None


def _explain(ended: Ended, wish: InstallWish) -> str:
    if ended.find("No space left on device"):
        return f"cannot install {wish.requirement}: no space left on the disk"
    if ended.find(*_UNREACHABLE):
        return f"cannot install {wish.requirement}: the package index cannot be reached"
    if ended.find(*_NOT_THERE):
        return f"cannot install {wish.requirement}: the index has no such version for this Python"
    return f"cannot install {wish.requirement}: {_last(ended)}"


def _last(ended: Ended) -> str:
    """The line that says most."""
    errors = [line for line in ended.lines if "error" in line.lower()]
    lines = errors or ended.lines
    return lines[-1] if lines else f"exit code {ended.code}"
