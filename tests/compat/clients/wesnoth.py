"""A player in the lobby of a Battle for Wesnoth server (TCP).

After a handshake of four bytes each side sends WML documents: a 32-bit length, then gzip. https://wiki.wesnoth.org/MultiplayerServerWML
"""

import gzip
import re
import socket
import struct

from harness import Deadline, Failure

VERSION = "1.16.9"
PLAIN = b"\0\0\0\0"


class Player:
    def __init__(self, address, name, timeout=15):
        self.name = name
        self._deadline = Deadline(timeout)
        self._socket = socket.create_connection(address, self._deadline.check("connection"))
        self._socket.sendall(PLAIN)
        self._receive_exactly(4, "handshake")
        self.expect("[version]")
        self.send(f'[version]\nversion="{VERSION}"\n[/version]')
        self.expect("[mustlogin]")
        self.send(f'[login]\nusername="{name}"\n[/login]')
        self.expect("[join_lobby]")

    def send(self, wml):
        packed = gzip.compress(wml.encode() + b"\n")
        self._socket.sendall(struct.pack(">I", len(packed)) + packed)

    def expect(self, tag):
        """Reads documents until one contains `tag`, and returns it."""
        while True:
            (length,) = struct.unpack(">I", self._receive_exactly(4, tag))
            document = gzip.decompress(self._receive_exactly(length, tag)).decode()
            if "[error]" in document:
                raise Failure(f"{self.name} was refused: {' '.join(document.split())}")
            if tag in document:
                return document

    def say(self, text):
        self.send(f'[message]\nmessage="{text}"\nroom="lobby"\nsender="{self.name}"\n[/message]')

    def hear(self, speaker, text):
        """Waits for a player's line of chat and fails when it is not what `speaker` said."""
        said = {"sender": "server"}
        while said["sender"] == "server":
            said = dict(re.findall(r'(sender|message)="([^"]*)"', self.expect("[message]")))
        if said != {"sender": speaker.name, "message": text}:
            raise Failure(f"{self.name} heard {said} instead of {text!r} from {speaker.name}")

    def leave(self):
        self._socket.close()

    def _receive_exactly(self, count, what):
        data = bytearray()
        while len(data) < count:
            self._socket.settimeout(self._deadline.check(what))
            try:
                part = self._socket.recv(count - len(data))
            except TimeoutError:
                continue
            if not part:
                raise Failure(f"the server hung up on {self.name} before {what}")
            data += part
        return bytes(data)
