"""The ways in which Minecraft Java clients ask for a server list entry, byte by byte (TCP). https://minecraft.wiki/w/Java_Edition_protocol/Server_List_Ping

An old client sends its whole question at once and waits; nobody between it and the server may wait for more.
"""

import json
import os
import socket
import struct
import time

from harness import Deadline, Failure

PROTOCOL_1_6 = 74
MODERN_PROTOCOL = 754
MCSTATUS_PROTOCOL = 47
NEXT_STATUS = 1


def _wide(text):
    return struct.pack(">H", len(text)) + text.encode("utf-16-be")


def legacy_forms(host, port):
    """The questions of clients up to 1.3, of 1.4 and 1.5, and of 1.6."""
    named = _wide(host) + struct.pack(">I", port)
    return {
        "FE": b"\xfe",
        "FE 01": b"\xfe\x01",
        "FE 01 FA": b"\xfe\x01\xfa" + _wide("MC|PingHost") + struct.pack(">HB", 1 + len(named), PROTOCOL_1_6) + named,
    }


def ask_legacy(address, question, timeout=10):
    """Sends `question` and returns the fields of the answer."""
    with _Connection(address, timeout) as server:
        server.send(question)
        kind, length = struct.unpack(">BH", server.read(3))
        if kind != 0xFF:
            raise Failure(f"legacy ping answered with packet {kind:#04x}")
        answer = server.read(2 * length).decode("utf-16-be")
    return answer.split("\0") if "\0" in answer else answer.split("§")


def ask_modern(address, timeout=10, typed=None, hangs_up=True, protocol=MODERN_PROTOCOL):
    """Asks for the status, then pings on the same connection; returns the status once the ping's number has come back and the server has hung up.

    `typed` is the name that the player typed to come to `address`. Unless it `hangs_up` the server may leave that to the player, as the game does.
    """
    host, port = address
    with _Connection(address, timeout) as server:
        name = (typed or host).encode()
        server.send_packet(0, _varint(protocol) + _varint(len(name)) + name + struct.pack(">H", port) + _varint(NEXT_STATUS))
        server.send_packet(0)
        status = server.read_packet()
        number = os.urandom(8)
        server.send_packet(1, number)
        pong = server.read_packet()
        if pong != b"\x01" + number:
            raise Failure(f"ping {number.hex()} answered with {pong.hex()}")
        if hangs_up:
            server.expect_end()
    return json.loads(status[status.index(b"{"):])


def wait_for_status(address, typed, what, accept, timeout):
    """Asks for the status until `accept` says yes to one. That is what mcstatus sees then: a relay may remember another answer for other versions."""
    deadline = Deadline(timeout)
    while True:
        status = ask_modern(address, typed=typed, hangs_up=False, protocol=MCSTATUS_PROTOCOL)
        if accept(status):
            return
        try:
            deadline.check(f"server list entry of {typed} that {what}")
        except Failure as failure:
            raise Failure(f"{failure}; it is {json.dumps(status)[:300]}") from None
        time.sleep(0.1)


class _Connection:
    def __init__(self, address, timeout):
        self._deadline = Deadline(timeout)
        self._socket = socket.create_connection(address, timeout)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._socket.close()

    def send(self, data):
        self._socket.sendall(data)

    def send_packet(self, number, body=b""):
        self.send(_varint(1 + len(body)) + bytes([number]) + body)

    def read_packet(self):
        length = shift = 0
        while True:
            (byte,) = self.read(1)
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return self.read(length)

    def read(self, count):
        data = bytearray()
        while len(data) < count:
            part = self._receive(count - len(data))
            if not part:
                raise Failure(f"the server hung up after {len(data)} of {count} bytes")
            data += part
        return bytes(data)

    def expect_end(self):
        if extra := self._receive(1):
            raise Failure(f"the server sent {extra!r} after its last answer")

    def _receive(self, count):
        self._socket.settimeout(self._deadline.check("answer to a server list ping"))
        try:
            return self._socket.recv(count)
        except TimeoutError:
            raise Failure(f"no answer to a server list ping within {self._deadline.seconds} s") from None


def _varint(value):
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
