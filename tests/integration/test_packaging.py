"""The Debian package, the install script and what else a release holds, around a stand-in for the executable."""

import gzip
import hashlib
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from appliance import __version__
from appliance.cli.catalogue import VERBS
from appliance.core.setting_keys import KEYS

ROOT = Path(__file__).parent.parent.parent
SINGLE = f"dynamo-appliance-linux-{platform.machine()}"
STAND_IN = f'#!/bin/sh\necho "dynamo-appliance {__version__}"\n'


def call(*command: str | Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    environ = {"PATH": os.environ["PATH"], "HOME": "/nonexistent"} | (env or {})
    return subprocess.run([str(word) for word in command], env=environ, capture_output=True, text=True, timeout=60)


def need(tool: str) -> None:
    if shutil.which(tool) is None:
        pytest.skip(f"needs the program {tool}")


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release of the stand-in."""
    need("dpkg-deb")
    room = tmp_path_factory.mktemp("packages")
    stand_in = room / "stand-in"
    stand_in.write_text(STAND_IN)
    done = call(sys.executable, ROOT / "packaging/release.py", "--executable", stand_in, "--output", room / "release")
    assert done.returncode == 0, done.stderr
    return room / "release"


@pytest.fixture(scope="module")
def package(release: Path) -> Path:
    return next(release.glob("*.deb"))


@pytest.fixture(scope="module")
def unpacked(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("root")
    assert call("dpkg-deb", "-x", package, root).returncode == 0
    return root


def test_files_lie_where_they_belong(unpacked: Path) -> None:
    places = {str(path.relative_to(unpacked)): path.stat().st_mode & 0o777 for path in unpacked.rglob("*.*")}
    assert places["usr/lib/systemd/system/dynamo-appliance.service"] == 0o644
    assert places["usr/lib/systemd/system/dynamo-appliance-snapshots.service"] == 0o644
    assert places["usr/lib/sysusers.d/dynamo-appliance.conf"] == 0o644
    assert places["usr/lib/tmpfiles.d/dynamo-appliance.conf"] == 0o644
    assert places["etc/dynamo-appliance/appliance.toml"] == 0o644
    for name in ("grafana.json", "prometheus.yml"):
        assert places[f"usr/share/doc/dynamo-appliance/dashboards/{name}"] == 0o644
    executable = unpacked / "usr/bin/dynamo-appliance"
    assert (executable.read_text(), executable.stat().st_mode & 0o777) == (STAND_IN, 0o755)
    assert {path.stat().st_mode & 0o777 for path in unpacked.rglob("*") if path.is_dir()} == {0o755}


def test_facts_and_scripts(package: Path) -> None:
    facts = call("dpkg-deb", "-f", package).stdout
    assert f"Version: {__version__}\n" in facts
    assert "Depends: libc6 (>= " in facts
    listing = call("dpkg-deb", "-c", package).stdout.splitlines()
    assert {line.split()[1] for line in listing} == {"root/root"}
    assert call("dpkg-deb", "-I", package, "conffiles").stdout.split() == [
        "/etc/default/dynamo-appliance",
        "/etc/dynamo-appliance/appliance.toml",
    ]


def test_the_settings_file_is_usable(unpacked: Path) -> None:
    done = call(sys.executable, "-m", "appliance", "config", "check", unpacked / "etc/dynamo-appliance/appliance.toml")
    assert (done.returncode, done.stdout) == (0, "ok\n"), done.stderr


def dpkg(root: Path, *args: str | Path) -> subprocess.CompletedProcess[str]:
    """dpkg on a scratch system, its scripts run outside it with DPKG_ROOT set."""
    options = [f"--root={root}", "--force-script-chrootless", "--force-depends", "--force-bad-path"]
    return call("dpkg", *options, *args, env={"PATH": "/usr/local/sbin:/usr/sbin:/sbin:" + os.environ["PATH"]})


@pytest.mark.root
def test_install_remove_purge(package: Path, tmp_path: Path) -> None:
    need("systemd-sysusers")
    for folder in ("var/lib/dpkg/info", "var/lib/dpkg/updates", "etc"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "var/lib/dpkg/status").touch()
    installed = dpkg(tmp_path, "-i", package)
    assert installed.returncode == 0, installed.stderr
    assert "systemctl enable --now dynamo-appliance" in installed.stdout
    assert "dynamo-appliance:" in (tmp_path / "etc/passwd").read_text()
    state = tmp_path / "var/lib/dynamo-appliance"
    assert state.stat().st_mode & 0o777 == 0o700
    (state / "appliance.db").touch()
    assert not (tmp_path / "etc/systemd/system").exists()  # nothing is enabled, nothing started
    assert dpkg(tmp_path, "-r", "dynamo-appliance").returncode == 0
    assert (state / "appliance.db").exists()
    assert (tmp_path / "etc/dynamo-appliance/appliance.toml").exists()
    assert dpkg(tmp_path, "--purge", "dynamo-appliance").returncode == 0
    assert not state.exists()
    assert not (tmp_path / "etc/dynamo-appliance").exists()


def test_a_folder_build_is_packed_with_a_link(tmp_path: Path) -> None:
    need("dpkg-deb")
    build = tmp_path / "build"
    (build / "_internal").mkdir(parents=True)
    (build / "dynamo-appliance").write_text(STAND_IN)
    (build / "dynamo-appliance").chmod(0o755)
    done = call(sys.executable, ROOT / "packaging/deb.py", "--executable", build, "--output", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert call("dpkg-deb", "-x", done.stdout.strip(), tmp_path / "root").returncode == 0
    assert call(tmp_path / "root/usr/bin/dynamo-appliance").stdout == f"dynamo-appliance {__version__}\n"


def test_a_missing_executable_is_one_line(tmp_path: Path) -> None:
    for script in ("deb.py", "release.py"):
        done = call(sys.executable, ROOT / "packaging" / script, "--executable", tmp_path / "none")
        assert done.returncode == 1
        assert len(done.stderr.splitlines()) == 1
        assert "make binary" in done.stderr


def test_the_man_page_renders_and_is_whole(unpacked: Path) -> None:
    need("man")
    page = unpacked / "usr/share/man/man1/dynamo-appliance.1.gz"
    done = call("man", "--warnings=w", "-l", page, env={"MANWIDTH": "120", "LC_ALL": "C.UTF-8"})
    assert (done.returncode, done.stderr) == (0, "")
    source = gzip.decompress(page.read_bytes()).decode()
    for verb in VERBS:
        assert f".SS {verb.replace('-', chr(92) + '-')}\n" in source
    shown = done.stdout
    assert {key for key in KEYS if key not in shown} == set()


@pytest.mark.parametrize(
    ("shell", "place", "flags"),
    [
        ("bash", "usr/share/bash-completion/completions/dynamo-appliance", ["-e"]),
        ("zsh", "usr/share/zsh/vendor-completions/_dynamo-appliance", ["-f", "-e"]),
        ("fish", "usr/share/fish/vendor_completions.d/dynamo-appliance.fish", ["--no-config"]),
    ],
)
def test_completions_can_be_sourced(
    unpacked: Path, tmp_path: Path, shell: str, place: str, flags: Sequence[str]
) -> None:
    need(shell)
    start = "autoload -Uz compinit && compinit -u -D; " if shell == "zsh" else ""
    env = {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path)}
    done = call(shell, *flags, "-c", f"{start}source {unpacked / place}", env=env)
    assert (done.returncode, done.stderr) == (0, "")


def test_checksums_are_those_of_the_files(release: Path) -> None:
    lines = (release / "SHA256SUMS").read_text().splitlines()
    sums = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    files = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in release.iterdir()}
    del files["SHA256SUMS"]
    assert sums == files
    assert {SINGLE, "install.sh"} <= set(files)
    assert any(name.endswith(".tar.gz") for name in files)


class TestInstallScript:
    """`install.sh` from a folder."""

    def run(self, release: Path, home: Path, *args: str) -> subprocess.CompletedProcess[str]:
        return call("sh", release / "install.sh", *args, env={"HOME": str(home), "TMPDIR": str(home)})

    def test_install_and_uninstall(self, release: Path, tmp_path: Path) -> None:
        target = tmp_path / "bin"
        done = self.run(release, tmp_path, "--to", str(target))
        assert done.returncode == 0, done.stderr
        assert f"installed {target}/dynamo-appliance: dynamo-appliance {__version__}" in done.stdout
        assert "not in your PATH" in done.stdout
        assert call(target / "dynamo-appliance").returncode == 0
        assert self.run(release, tmp_path, "--to", str(target)).returncode == 0  # over itself
        (tmp_path / ".local/state/dynamo-appliance").mkdir(parents=True)
        gone = self.run(release, tmp_path, "--to", str(target), "--uninstall")
        assert (gone.returncode, list(target.iterdir())) == (0, [])
        assert "stay in" in gone.stdout
        assert self.run(release, tmp_path, "--to", str(target), "--uninstall").returncode == 1
        assert sorted(path.name for path in tmp_path.iterdir()) == [".local", "bin"]  # no temporary files

    def test_a_changed_file_is_refused(self, release: Path, tmp_path: Path) -> None:
        bad = tmp_path / "bad"
        shutil.copytree(release, bad)
        (bad / SINGLE).write_text("#!/bin/sh\necho evil\n")
        done = self.run(release, tmp_path, "--from", str(bad), "--to", str(tmp_path / "bin"))
        assert done.returncode == 1
        assert "is not what SHA256SUMS says" in done.stderr
        assert len(done.stderr.splitlines()) == 1
        assert not (tmp_path / "bin").exists()

    @pytest.mark.parametrize(
        ("args", "code", "text"),
        [
            (["--from", "/nowhere"], 1, "there is no SHA256SUMS"),
            (["--from", "http://insecure.example"], 1, "only https"),
            (["--what"], 2, "unknown argument"),
            (["--to"], 2, "needs a value"),
        ],
    )
    def test_wrong_calls(self, release: Path, tmp_path: Path, args: list[str], code: int, text: str) -> None:
        done = self.run(release, tmp_path, *args)
        assert done.returncode == code
        assert text in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_shell_scripts_are_clean() -> None:
    need("shellcheck")
    done = call("shellcheck", ROOT / "packaging/install.sh", *sorted((ROOT / "packaging/debian").iterdir()))
    assert done.stdout == ""
