"""The first packets of a RakNet client (UDP): the ping of a server list, and a probe as large as the path is hoped to carry."""

import contextlib
import socket
import struct

from harness import Deadline, Failure

PING, PONG = 1, 0x1C
OPEN_CONNECTION_REQUEST_1, OPEN_CONNECTION_REPLY_1 = 5, 6
MAGIC = bytes.fromhex("00ffff00fefefefefdfdfdfd12345678")
PROTOCOL = 11
IP_AND_UDP_HEADERS = 28
# After the kind, the time, the GUID of the server, MAGIC and the length of what follows.
ENTRY_AT = 1 + 8 + 8 + 16 + 2
# After the kind, MAGIC, the GUID of the server and whether it wants encryption. Padding may follow.
MTU_AT = 1 + 16 + 8 + 1
RETRY = 0.5


def wait_for_entry(address, words, timeout):
    """Pings until the entry of the server list has `words` in it, and no other comes. That is what mcstatus sees then."""
    packet = struct.pack(">BQ", PING, 0) + MAGIC + bytes(8)
    deadline = Deadline(timeout)
    entries = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect(address)
        while not entries or not all(words in entry for entry in entries):
            left = deadline.check(f"list entry with {words!r}, the last ones are {entries}")
            client.send(packet)
            entries = list(_entries(client, min(RETRY, left)))


def _entries(client, timeout):
    """Every answer to a ping: the relay answers beside a server that has just come back."""
    client.settimeout(timeout)
    with contextlib.suppress(TimeoutError):
        while True:
            reply = client.recv(65536)
            if reply[0] != PONG:
                raise Failure(f"RakNet ping answered with packet {reply[0]:#04x}")
            yield reply[ENTRY_AT:].decode()


def probe(address, payload_size, timeout=10):
    """Sends probes of `payload_size` bytes and returns how large a packet, headers included, the server has seen arrive."""
    packet = (bytes([OPEN_CONNECTION_REQUEST_1]) + MAGIC + bytes([PROTOCOL])).ljust(payload_size, b"\0")
    deadline = Deadline(timeout)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect(address)
        while True:
            client.send(packet)
            client.settimeout(min(RETRY, deadline.check(f"reply to a RakNet probe of {payload_size} bytes")))
            try:
                reply = client.recv(65536)
            except TimeoutError:
                continue
            if reply[0] != OPEN_CONNECTION_REPLY_1:
                raise Failure(f"RakNet probe answered with packet {reply[0]:#04x}")
            return struct.unpack_from(">H", reply, MTU_AT)[0]
