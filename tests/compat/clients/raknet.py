"""The first packet of a RakNet client (UDP): a probe as large as the path is hoped to carry."""

import socket
import struct

from harness import Deadline, Failure

OPEN_CONNECTION_REQUEST_1, OPEN_CONNECTION_REPLY_1 = 5, 6
MAGIC = bytes.fromhex("00ffff00fefefefefdfdfdfd12345678")
PROTOCOL = 11
IP_AND_UDP_HEADERS = 28
# After the kind, MAGIC, the GUID of the server and whether it wants encryption. Padding may follow.
MTU_AT = 1 + 16 + 8 + 1
RETRY = 0.5


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
