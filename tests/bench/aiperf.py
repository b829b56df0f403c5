"""The load generator of the Dynamo project against a whole appliance: `python -m tests.bench.aiperf`.

It is installed from the package index into `out/aiperf` on first use (more than a gigabyte, some minutes). Nothing else
is fetched: its tokenizer is the demo model's, from the test data. Ends with 1 when a request failed or is missing.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Any

from tests.e2e.appliance_process import Appliance, appliance

ROOT = Path(__file__).parents[2]
HOME = ROOT / "out" / "aiperf"
TOKENIZER = ROOT / "tests" / "data" / "tiny"
VERSION = "0.13.0"
RUN_S = 500.0
METRICS = (
    "time_to_first_token",
    "inter_token_latency",
    "request_latency",
    "output_token_throughput",
    "request_throughput",
    "input_sequence_length",
    "output_sequence_length",
)


def installed() -> Path:
    """Path of the program, in an environment of its own."""
    program = HOME / "bin" / "aiperf"
    if not program.exists():
        venv.create(HOME, with_pip=True)
        subprocess.run([HOME / "bin" / "pip", "install", "--quiet", f"aiperf=={VERSION}"], check=True)
    return program


def profile(one: Appliance, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Run it; its own summary as it exports it."""
    argv = [
        installed(),
        "profile",
        "--model",
        one.models[0],
        "--url",
        one.url,
        "--endpoint-type",
        "chat",
        "--streaming",
    ]
    argv += ["--tokenizer", TOKENIZER, "--isl", options.isl, "--isl-stddev", 0, "--osl", options.osl]
    argv += ["--extra-inputs", "ignore_eos:true", "--extra-inputs", f"min_tokens:{options.osl}"]
    argv += ["--concurrency", options.concurrency, "--request-count", options.requests]
    argv += ["--warmup-request-count", options.concurrency, "--random-seed", 1, "--ui-type", "simple"]
    argv += ["--no-gpu-telemetry", "--artifact-dir", folder]
    # With HF_HUB_OFFLINE it takes a folder for the name of a model; without, it asks the hub nothing for a folder.
    env = {name: value for name, value in os.environ.items() if name not in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")}
    done = subprocess.run([str(word) for word in argv], env=env, timeout=RUN_S, check=False)
    exports = list(folder.rglob("profile_export_aiperf.json"))
    if done.returncode or not exports:
        sys.exit(f"error: aiperf ended with {done.returncode} and {len(exports)} exports")
    summary: dict[str, Any] = json.loads(exports[0].read_text())
    return summary


def check(summary: dict[str, Any], expected: int) -> list[str]:
    """What is wrong with a run."""
    counted = (summary.get("request_count") or {}).get("avg")
    failed = (summary.get("error_request_count") or {}).get("avg") or 0
    wrong = (
        [f"{failed} requests failed: {summary.get('error_summary')}"] if failed or summary.get("error_summary") else []
    )
    if counted != expected:
        wrong.append(f"{counted} requests were counted, not {expected}")
    return wrong


def main() -> None:
    """Print the main metrics."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--binary", help="the executable to measure; without it `python -m appliance`")
    for name, default in (("isl", 500), ("osl", 100), ("concurrency", 16), ("requests", 320)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    binary = str(Path(options.binary).resolve()) if options.binary else None
    engine = ("--engine", "mocker", "--replicas", "2", "--engine-arg", "timing=polynomial", "--router-mode", "kv")
    before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder, appliance(binary, Path(folder) / "state", *engine, "m") as one:
        summary = profile(one, Path(folder) / "artifacts", options)
    print(f"load of the machine {before:.1f} before, {os.getloadavg()[0]:.1f} after")
    print(f"{'metric':28}{'avg':>10}{'p50':>10}{'p99':>10}  unit")
    for name in METRICS:
        row = summary.get(name) or {}
        figures = (f"{row[key]:>10.2f}" if row.get(key) is not None else f"{'':>10}" for key in ("avg", "p50", "p99"))
        print(f"{name:28}{''.join(figures)}  {row.get('unit', '')}")
    if wrong := check(summary, options.requests):
        sys.exit("error: " + "; ".join(wrong))


if __name__ == "__main__":
    main()
