"""Free ports on the loopback interface."""

import socket

from appliance.core.errors import CannotStart

LOOPBACK = "127.0.0.1"
TRIES = 200


def free_ports(count: int = 1) -> int:
    """The first of `count` ports in a row that are free now; somebody may still take one before the server does.

    Raises `CannotStart`.
    """
    for _ in range(TRIES):
        sockets: list[socket.socket] = []
        try:
            first = _bound(0, sockets)
            for offset in range(1, count):
                _bound(first + offset, sockets)
        except (OSError, OverflowError):
            continue
        finally:
            for one in sockets:
                one.close()
        return first
    raise CannotStart(f"cannot find {count} free ports in a row on {LOOPBACK}")


def _bound(port: int, sockets: list[socket.socket]) -> int:
    one = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sockets.append(one)
    one.bind((LOOPBACK, port))
    number: int = one.getsockname()[1]
    return number
