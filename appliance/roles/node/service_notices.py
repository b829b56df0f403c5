"""What systemd is told when it started us: ready, stopping, reloading, a line of status, and that we are alive."""

import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress

import trio


class ServiceNotices:
    """Notices to the service manager; without one every method does nothing."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._address = environ.get("NOTIFY_SOCKET", "")
        self.watchdog_s = watchdog_interval_s(environ, os.getpid(), os.getppid())
        """Seconds between two signs of life; None when nobody waits for them."""

    def ready(self, status: str) -> None:
        """Everything wanted serves, or a reload is done."""
        self._send("READY=1", f"STATUS={status}")

    def reloading(self) -> None:
        """Settings are being read anew; `ready` ends it."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}", "STATUS=reading the settings anew")

    def stopping(self, status: str) -> None:
        """An orderly stop has begun."""
        self._send("STOPPING=1", f"STATUS={status}")

    def status(self, text: str) -> None:
        """One line for `systemctl status`."""
        self._send(f"STATUS={text}")

    async def run_watchdog(self) -> None:
        """Give signs of life for ever, from the event loop: when it hangs, they stay out and we are started again."""
        while self.watchdog_s is not None:
            self._send("WATCHDOG=1")
            await trio.sleep(self.watchdog_s)

    def _send(self, *lines: str) -> None:
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        data = "\n".join(" ".join(line.splitlines()) for line in lines).encode()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock, suppress(OSError):
            sock.setblocking(False)  # a service manager that reads nothing must not stop the event loop
            sock.sendto(data, address)


def watchdog_interval_s(environ: Mapping[str, str], pid: int, parent: int) -> float | None:
    """Half of what systemd waits for; None without a watchdog, or when it is another process's.

    The one-file executable's parent is its own bootloader, which is the process that systemd knows.
    """
    try:
        limit_us = int(environ.get("WATCHDOG_USEC", "0"))
        owner = int(environ.get("WATCHDOG_PID", pid))
    except ValueError:
        return None
    return limit_us / 2e6 if limit_us > 0 and owner in (pid, parent) else None
