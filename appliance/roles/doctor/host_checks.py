"""Checks of the machine: system, limits, memory, clock, engines."""

import importlib.util
import os
import platform
import resource
import sys
import time
from collections.abc import Iterator

import psutil

from appliance import __version__
from appliance.preprocess import word_table
from appliance.roles.doctor.finding import Finding, Scene, fail, in_gb, ok, warn
from appliance.roles.own_executable import frozen
from appliance.routing import prefix_index
from appliance.telemetry import buckets

KERNEL = (5, 4)  # pidfd
GLIBC = (2, 35)
FILES = 65_536
MEMORY = 4e9
SHARED_MEMORY = 1e9
EPOCH = 1_735_689_600  # 2025: no clock of a machine that runs this can be earlier
JUMP_S = 60.0
ENGINES = {"llamacpp": "xllamacpp"}
"""Engines inside this executable, and the module without which they do not work."""


def check_executable(scene: Scene) -> Iterator[Finding]:
    """What is run, and that it can start its children."""
    form = "one file" if frozen() else f"Python {platform.python_version()}"
    if not os.access(sys.executable, os.X_OK):
        yield fail(f"{sys.executable} cannot be executed", "give it the right again: chmod +x")
        return
    yield ok(f"{__version__} ({form}), {sys.executable}")


def check_native_code(scene: Scene) -> Iterator[Finding]:
    """Whether what is hot is compiled."""
    for name, is_native, costs in (
        ("prefix index", prefix_index.is_native(), "for workers that report many cache events"),
        ("word table", word_table.is_native(), "for every prompt"),
        ("histogram", buckets.is_native(), "for every request"),
    ):
        if is_native:
            yield ok(f"the {name} is native code")
        else:
            cure = "install the one-file build, or build with a C compiler and Python's headers: make venv"
            yield warn(f"the {name} runs in Python, which costs CPU time {costs}", cure)


def check_system(scene: Scene) -> Iterator[Finding]:
    """Kernel and C library."""
    kernel, libc = platform.release(), os.confstr("CS_GNU_LIBC_VERSION") or "no glibc"
    text = f"kernel {kernel}, {libc}, {platform.machine()}"
    if _version(kernel) < KERNEL:
        yield fail(text, f"needs Linux {KERNEL[0]}.{KERNEL[1]} or newer")
    elif _version(libc.split()[-1]) < GLIBC:
        yield warn(text, f"downloads are built for glibc {GLIBC[0]}.{GLIBC[1]}; build from source on this machine")
    else:
        yield ok(text)


def check_limits(scene: Scene) -> Iterator[Finding]:
    """Descriptors, and locked memory for engines that pin it."""
    _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files != resource.RLIM_INFINITY and files < FILES:
        cure = "every stream needs one; raise it: ulimit -Hn, LimitNOFILE= of the service, /etc/security/limits.conf"
        yield warn(f"at most {files} open files", cure)
    else:
        yield ok(f"at most {'any number of' if files == resource.RLIM_INFINITY else files} open files")
    _, locked = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    has_gpu = (scene.root / "dev/nvidiactl").exists()
    if locked == resource.RLIM_INFINITY:
        yield ok("memory may be locked")
    elif has_gpu:
        cure = "GPU engines pin memory; raise it: ulimit -Hl unlimited, LimitMEMLOCK=infinity of the service"
        yield warn(f"at most {locked >> 20} MiB of memory may be locked", cure)
    else:
        yield ok(f"at most {locked >> 20} MiB of memory may be locked; nothing here needs more")


def check_memory(scene: Scene) -> Iterator[Finding]:
    """What is free for models on the CPU."""
    memory = psutil.virtual_memory()
    text = f"{in_gb(memory.available)} of {in_gb(memory.total)} available"
    if memory.available < MEMORY:
        yield warn(text, "enough for small models only; end other programs or choose a smaller model")
    else:
        yield ok(text)


def check_shared_memory(scene: Scene) -> Iterator[Finding]:
    """GPU engines exchange data in /dev/shm."""
    folder = scene.root / "dev/shm"
    if not folder.is_dir():
        yield warn("there is no /dev/shm", "engines with several GPUs need it; mount a tmpfs there")
        return
    facts = os.statvfs(folder)
    free = facts.f_bavail * facts.f_frsize
    if free < SHARED_MEMORY:
        cure = "engines with several GPUs need 1 GB or more; in a container: --shm-size=8g"
        yield warn(f"/dev/shm has {in_gb(free)} free", cure)
    else:
        yield ok(f"/dev/shm has {in_gb(free)} free")


def check_clock(scene: Scene) -> Iterator[Finding]:
    """The clock is plausible and has not jumped under the running appliance, whose deadlines do not depend on it."""
    now = time.time()
    if now < EPOCH:
        cure = "certificates and downloads will be refused; set the clock: timedatectl set-ntp true"
        yield fail(f"the clock says {time.strftime('%Y-%m-%d', time.gmtime(now))}", cure)
        return
    if scene.status is None or "uptime_s" not in scene.status:
        yield ok(time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now)))
        return
    jumped = now - float(scene.status["started_at"]) - float(scene.status["uptime_s"])
    if abs(jumped) > JUMP_S:
        cure = "deadlines are not affected; ages and times of decisions before the jump are wrong by it"
        yield warn(f"the clock has jumped by {jumped:+.0f} s since the appliance started", cure)
    else:
        yield ok("the clock has not jumped since the appliance started")


def check_engines(scene: Scene) -> Iterator[Finding]:
    """Engines that are built in, and managed environments of others."""
    for engine, module in ENGINES.items():
        if importlib.util.find_spec(module) is None:
            yield fail(f"{engine} is missing", "install the package again")
        else:
            yield ok(f"{engine} is built in{_computes_on(engine)}")
    folder = scene.paths.state_dir / "engines"
    try:
        installed = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError:
        installed = []
    yield ok(f"installed besides: {', '.join(installed) or 'none'}")


def _computes_on(engine: str) -> str:
    if engine != "llamacpp":
        return ""
    from appliance.engines.llamacpp.devices import gpu_backends

    return f", computes on {', '.join(gpu_backends()) or 'the CPU only'}"


def _version(text: str) -> tuple[int, int]:
    numbers = text.replace("-", ".").split(".")
    return (int(numbers[0]), int(numbers[1])) if len(numbers) > 1 and numbers[0].isdigit() else (0, 0)
