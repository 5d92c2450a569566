"""A player on a Luanti (Minetest 5.6) server (UDP).

The game brings its own reliable channels: numbered packets that are repeated until acknowledged, and messages above about 500 bytes in parts. This player
registers, receives all definitions of the game, enters the world and chats. Names follow the engine's `networkprotocol.h`.
"""

import os
import socket
import struct

from harness import Deadline, Failure

PROTOCOL = 0x4F457403
SERIALIZATION = 28
PROTOCOL_VERSIONS = (37, 41)
CONTROL, ORIGINAL, SPLIT, RELIABLE = 0, 1, 2, 3
ACK, SET_PEER_ID, PING, DISCONNECT = 0, 1, 2, 3
FIRST_SEQUENCE = 65500
AUTH_FIRST_SRP = 1 << 2

TO_SERVER_INIT, TO_SERVER_INIT2, TO_SERVER_CHAT, TO_SERVER_CLIENT_READY, TO_SERVER_FIRST_SRP = 0x02, 0x11, 0x32, 0x43, 0x50
TO_CLIENT_HELLO, TO_CLIENT_AUTH_ACCEPT, TO_CLIENT_ACCESS_DENIED = 0x02, 0x03, 0x0A
TO_CLIENT_CHAT, TO_CLIENT_NODE_DEFINITIONS, TO_CLIENT_ITEM_DEFINITIONS, TO_CLIENT_ANNOUNCE_MEDIA = 0x2F, 0x3A, 0x3D, 0x3C

RETRY = 0.3


class Player:
    def __init__(self, address, name, timeout=20):
        self.name = name
        self._deadline = Deadline(timeout)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.connect(address)
        self._peer = 0
        self._next_out = {}
        self._next_in = {}
        self._unacknowledged = {}
        self._early = {}
        self._parts = {}
        self._messages = []

    def join(self):
        """Enters the world; returns the size of the definitions received on the way."""
        init = struct.pack(">BHHH", SERIALIZATION, 0, *PROTOCOL_VERSIONS) + _string(self.name.encode())
        # INIT travels unreliably and the first of them is often lost: the server answers once it knows the peer.
        hello = self._expect(TO_CLIENT_HELLO, repeat=lambda: self._send(1, _original(TO_SERVER_INIT, init)))
        (methods,) = struct.unpack_from(">I", hello, 5)
        if not methods & AUTH_FIRST_SRP:
            raise Failure(f"{self.name} is known to the server already")
        # The server keeps salt and verifier for later logins without looking into them.
        self._send_reliably(1, TO_SERVER_FIRST_SRP, _string(os.urandom(16)) + _string(os.urandom(256)) + b"\0")
        self._expect(TO_CLIENT_AUTH_ACCEPT)
        self._send_reliably(1, TO_SERVER_INIT2, _string(b""))
        definitions = [self._expect(kind) for kind in (TO_CLIENT_ITEM_DEFINITIONS, TO_CLIENT_NODE_DEFINITIONS, TO_CLIENT_ANNOUNCE_MEDIA)]
        self._send_reliably(1, TO_SERVER_CLIENT_READY, struct.pack(">BBBB", 5, 6, 1, 0) + _string(b"compat") + struct.pack(">H", 6))
        return sum(map(len, definitions))

    def say(self, text):
        wide = text.encode("utf-16-be")
        self._send_reliably(2, TO_SERVER_CHAT, struct.pack(">H", len(wide) // 2) + wide)

    def hear(self, text):
        """Waits for a line of chat that contains `text`."""
        while text not in self._expect(TO_CLIENT_CHAT).decode("utf-16-be", "replace"):
            pass

    def leave(self):
        self._send(0, bytes([CONTROL, DISCONNECT]))
        self._socket.close()

    def _expect(self, kind, repeat=lambda: None):
        """Waits for a message of `kind` and returns its body; messages before it are dropped."""
        repeat()
        while True:
            while self._messages:
                message = self._messages.pop(0)
                (got,) = struct.unpack_from(">H", message)
                if got == TO_CLIENT_ACCESS_DENIED:
                    raise Failure(f"the server refuses {self.name}: {message[2:]!r}")
                if got == kind:
                    return message[2:]
            self._socket.settimeout(min(RETRY, self._deadline.check(f"message {kind:#04x} for {self.name}")))
            try:
                packet = self._socket.recv(65536)
            except TimeoutError:
                repeat()
                for channel, packet in list(self._unacknowledged.values()):
                    self._send(channel, packet)
                continue
            self._take(packet[6], packet[7:])

    def _take(self, channel, body):
        """Takes in what one packet carries, after its header."""
        kind = body[0]
        if kind == RELIABLE:
            (sequence,) = struct.unpack_from(">H", body, 1)
            self._send(channel, struct.pack(">BBH", CONTROL, ACK, sequence))
            self._take_in_order(channel, sequence, body[3:])
        elif kind == ORIGINAL:
            self._messages.append(body[1:])
        elif kind == SPLIT:
            sequence, count, number = struct.unpack_from(">HHH", body, 1)
            parts = self._parts.setdefault((channel, sequence), {})
            parts[number] = body[7:]
            if len(parts) == count:
                del self._parts[channel, sequence]
                self._messages.append(b"".join(parts[i] for i in range(count)))
        elif kind == CONTROL and body[1] == ACK:
            self._unacknowledged.pop((channel, struct.unpack_from(">H", body, 2)[0]), None)
        elif kind == CONTROL and body[1] == SET_PEER_ID:
            (self._peer,) = struct.unpack_from(">H", body, 2)
        elif kind == CONTROL and body[1] == DISCONNECT:
            raise Failure(f"the server hung up on {self.name}")

    def _take_in_order(self, channel, sequence, body):
        expected = self._next_in.setdefault(channel, FIRST_SEQUENCE)
        if (sequence - expected) & 0xFFFF < 0x8000:
            self._early[channel, sequence] = body
        while (body := self._early.pop((channel, self._next_in[channel]), None)) is not None:
            self._next_in[channel] = (self._next_in[channel] + 1) & 0xFFFF
            self._take(channel, body)

    def _send_reliably(self, channel, command, body):
        sequence = self._next_out.get(channel, FIRST_SEQUENCE)
        self._next_out[channel] = (sequence + 1) & 0xFFFF
        packet = struct.pack(">BH", RELIABLE, sequence) + _original(command, body)
        self._unacknowledged[channel, sequence] = channel, packet
        self._send(channel, packet)

    def _send(self, channel, body):
        self._socket.send(struct.pack(">IHB", PROTOCOL, self._peer, channel) + body)


def _original(command, body):
    return struct.pack(">BH", ORIGINAL, command) + body


def _string(data):
    return struct.pack(">H", len(data)) + data
