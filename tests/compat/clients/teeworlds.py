"""A player on a Teeworlds 0.7 server (UDP).

Packets carry the sender's acknowledgement in the clear, so this player does what a real one does at its pace: it sends a reliable message, repeats it
until the server has acknowledged it, then sends the next. Bodies may be Huffman-packed, which this player does not understand. The server packs only
where that makes a packet shorter, and random small letters get longer: such a line of chat comes in the clear unless it shares its packet with much else.
"""

import os
import random
import socket
import string
import struct

from harness import Deadline, Failure

NETWORK_VERSION = "0.7 802f1be60a05665f"
CLIENT_VERSION = 0x0705
NO_TOKEN = 0xFFFF_FFFF
# A token request must be longer than its answer, so that a server cannot be made to amplify.
TOKEN_REQUEST_SIZE = 512

FLAG_CONTROL, FLAG_PACKED, FLAG_CONNLESS = 1, 4, 8
CONTROL_CONNECT, CONTROL_ACCEPT, CONTROL_CLOSE, CONTROL_TOKEN = 1, 2, 4, 5
CHUNK_VITAL = 1
# System messages.
INFO, READY, ENTER_GAME = 1, 18, 19
# Game messages.
SV_CHAT, CL_SAY, CL_START_INFO = 3, 24, 27
CHAT_ALL, SKIN_PARTS = 1, 6

RETRY = 0.3
# The longest line of chat is 127 bytes.
LINE = 120


class Player:
    def __init__(self, address, name, timeout=9, source=""):
        self.name = name
        self._deadline = Deadline(timeout)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((source, 0))
        self._socket.connect(address)
        self._my_token = int.from_bytes(os.urandom(4), "big") & 0x7FFF_FFFF
        self._token = NO_TOKEN
        self._sequence = 0
        self._acknowledged = 0
        self._heard = []
        self._token = self._ask_control(CONTROL_TOKEN, CONTROL_TOKEN)

    def server_info(self):
        """Asks for the entry of the server list and returns its strings."""
        header = bytes([FLAG_CONNLESS << 2 | 1]) + struct.pack(">II", self._token, self._my_token)
        request = header + b"\xff\xff\xff\xffgie3" + _integer(7)
        return self._ask(request, "server info", lambda packet: _info_strings(packet))

    def join(self):
        self._ask_control(CONTROL_CONNECT, CONTROL_ACCEPT)
        self._send_reliably(INFO, True, _string(NETWORK_VERSION) + _string("") + _integer(CLIENT_VERSION))
        self._send_reliably(READY, True)
        skin = _string("standard") * SKIN_PARTS + _integer(0) * SKIN_PARTS + _integer(0) * SKIN_PARTS
        self._send_reliably(CL_START_INFO, False, _string(self.name) + _string("") + _integer(-1) + skin)
        self._send_reliably(ENTER_GAME, True)

    def tell(self, listener):
        """Says random lines until `listener` has understood one."""
        text = None
        while text is None or not listener._hears(text):
            text = "".join(random.choices(string.ascii_lowercase, k=LINE))
            self._send_reliably(CL_SAY, False, _integer(CHAT_ALL) + _integer(-1) + _string(text))

    def _hears(self, text):
        """Whether `text` comes in the clear within a second."""
        wanted, patience = _string(text), Deadline(1)
        while patience.left() and not any(wanted in body for body in self._heard):
            self._receive(f"line of chat for {self.name}", RETRY)
        return any(wanted in body for body in self._heard)

    def leave(self):
        self._socket.send(self._control(CONTROL_CLOSE))
        self._socket.close()

    def _control(self, message, extra=b""):
        return self._header(FLAG_CONTROL, 0) + bytes([message]) + extra

    def _header(self, flags, chunks):
        # This player acknowledges nothing: the server repeats itself and gives up after 10 s, longer than any player's deadline.
        return struct.pack(">BBBI", flags << 2, 0, chunks, self._token)

    def _ask_control(self, message, answer):
        """Sends a control message with our token until `answer` comes; returns the token in it, if any."""
        request = self._control(message, struct.pack(">I", self._my_token).ljust(TOKEN_REQUEST_SIZE, b"\0"))

        def token(packet):
            if not (packet[0] >> 2) & FLAG_CONTROL or packet[7] != answer:
                return None
            return struct.unpack(">I", packet[8:12])[0] if len(packet) >= 12 else NO_TOKEN

        return self._ask(request, f"answer {answer} to control message {message}", token)

    def _ask(self, request, what, parse):
        while True:
            self._socket.send(request)
            packet = self._receive(what, RETRY)
            if packet and (parsed := parse(packet)) is not None:
                return parsed

    def _send_reliably(self, message, is_system, body=b""):
        self._sequence += 1
        message = _integer(message << 1 | is_system) + body
        size, sequence = len(message), self._sequence
        chunk = bytes([CHUNK_VITAL << 6 | size >> 6, (sequence >> 2) & 0xC0 | size & 0x3F, sequence & 0xFF]) + message
        packet = self._header(0, 1) + chunk
        while self._acknowledged < sequence:
            self._socket.send(packet)
            self._receive(f"acknowledgement of message {sequence} from {self.name}", RETRY)

    def _receive(self, what, timeout):
        """Takes in one packet and returns it, or None when none comes within `timeout`."""
        self._socket.settimeout(min(timeout, self._deadline.check(what)))
        try:
            packet = self._socket.recv(2048)
        except TimeoutError:
            return None
        flags = packet[0] >> 2
        if flags & FLAG_CONNLESS:
            return packet
        if flags & FLAG_CONTROL:
            if packet[7] == CONTROL_CLOSE:
                raise Failure(f"the server sent {self.name} away: {packet[8:].rstrip(bytes(1)).decode('utf-8', 'replace')}")
            return packet
        self._acknowledged = max(self._acknowledged, (packet[0] & 3) << 8 | packet[1])
        if not flags & FLAG_PACKED:
            self._heard.append(packet[7:])
        return packet


def _info_strings(packet):
    if not (packet[0] >> 2) & FLAG_CONNLESS or packet[9:17] != b"\xff\xff\xff\xffinf3":
        return None
    # The token comes first and is one byte long; then version, name, host name, map and game type.
    return [part.decode() for part in packet[18:].split(b"\0")[:5]]


def _integer(value):
    """The game's variable-length integer: sign and six bits, then seven bits a byte."""
    sign, rest = (0x40, ~value) if value < 0 else (0, value)
    first, rest = rest & 0x3F, rest >> 6
    encoded = [sign | first]
    while rest:
        encoded[-1] |= 0x80
        encoded.append(rest & 0x7F)
        rest >>= 7
    return bytes(encoded)


def _string(text):
    return text.encode() + b"\0"
