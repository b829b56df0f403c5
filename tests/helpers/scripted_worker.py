"""A tiny worker process with switches for bad behaviour. Standard library only; reports on the descriptor it is given.

Reports are lines: `pid KIND PID` for itself and each process it makes, `ready ID` when it serves. SIGUSR1 asks it to
drain: it ends with code 0 after `--drain-s`.
"""

import argparse
import os
import signal
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--id", default="worker")
    parser.add_argument("--report-fd", type=int)
    parser.add_argument("--parent", type=int, help="die with this parent")
    parser.add_argument("--start-s", type=float, default=0.0)
    parser.add_argument("--never-ready", action="store_true")
    parser.add_argument("--ignore-term", action="store_true")
    parser.add_argument("--hold-pipe", action="store_true", help="fork a grandchild that keeps stdout open")
    parser.add_argument("--escape", action="store_true", help="fork a grandchild in a session of its own")
    parser.add_argument("--forget-env", action="store_true", help="the escaped grandchild clears its environment")
    parser.add_argument("--crash-after", type=float, help="seconds after being ready")
    parser.add_argument("--exit-code", type=int, default=1)
    parser.add_argument("--print", default="", help="a line for stderr before all else")
    parser.add_argument("--lines", type=int, default=0)
    parser.add_argument("--drain-s", type=float, default=0.0)
    return parser.parse_args(argv)


def report(switches: argparse.Namespace, text: str) -> None:
    if switches.report_fd is not None:
        os.write(switches.report_fd, f"{text}\n".encode())


def spawn_grandchild(switches: argparse.Namespace, kind: str, *, own_session: bool) -> None:
    """A process that sleeps for ten minutes and holds what it inherited."""
    read_end, write_end = os.pipe()
    if os.fork():
        os.close(write_end)
        os.read(read_end, 1)  # ends when the grandchild has reported, left the session and called exec
        os.close(read_end)
        return
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if own_session:
        os.setsid()
    report(switches, f"pid {kind} {os.getpid()}")
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
    os.execve(sys.executable, [sys.executable, "-IS", "-c", code], {} if switches.forget_env else dict(os.environ))


def main() -> None:
    switches = parse(sys.argv[1:])
    if switches.parent is not None:
        sys.path.insert(0, str(ROOT))
        from appliance.supervision.parent_death import die_with_parent

        die_with_parent(switches.parent)
    if switches.ignore_term:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, lambda _number, _frame: drain(switches))
    report(switches, f"pid worker {os.getpid()}")
    if switches.print:
        print(switches.print, file=sys.stderr, flush=True)
    if switches.hold_pipe:
        spawn_grandchild(switches, "holder", own_session=False)
    if switches.escape:
        spawn_grandchild(switches, "escaped", own_session=True)
    time.sleep(switches.start_s)
    sys.stdout.write("".join(f"line {number}\n" for number in range(switches.lines)))
    sys.stdout.flush()
    if not switches.never_ready:
        report(switches, f"ready {switches.id}")
    time.sleep(600 if switches.crash_after is None else switches.crash_after)
    sys.exit(switches.exit_code)


def drain(switches: argparse.Namespace) -> None:
    time.sleep(switches.drain_s)
    os._exit(0)


if __name__ == "__main__":
    main()
