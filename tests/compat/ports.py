"""Loopback ports for listeners: chosen at random among the free ones, never fixed."""

import random
import socket
import time
from collections import deque

from harness import LOOPBACK, Deadline, Failure

# Clear of the range the kernel hands out to outgoing sockets, which begins at 32768.
PORTS = range(12_000, 32_768)
# The most recent choices are not offered again: a port that one case has just left may still be in use by its ghost.
_recent = deque(maxlen=512)


def free_port():
    return free_ports(1)[0]


def free_ports(count):
    """A run of `count` neighbouring ports on which nobody listens, neither on TCP nor on UDP."""
    for _ in range(1_000):
        first = random.randrange(PORTS.start, PORTS.stop - count)
        run = range(first, first + count)
        if not any(port in _recent for port in run) and all(_is_free(port) for port in run):
            _recent.extend(run)
            return run
    raise Failure(f"no {count} free ports in a row below {PORTS.stop}")


def _is_free(port):
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_INET, kind) as probe:
            try:
                # On every address, for the server that listens on every address.
                probe.bind(("", port))
            except OSError:
                return False
    return True


def wait_for_listener(process, port, timeout):
    """Waits until `process` accepts on `port`: for servers that do not say when they are ready."""
    deadline = Deadline(timeout)
    while True:
        left = deadline.check(f"listener of {process.name} on port {port}")
        if process.returncode() is not None:
            raise Failure(f"{process.name} ended with {process.returncode()} before it listened")
        try:
            socket.create_connection((LOOPBACK, port), left).close()
            return
        except ConnectionRefusedError:
            time.sleep(0.02)
