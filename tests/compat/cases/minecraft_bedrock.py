"""Minecraft Bedrock over RakNet (UDP): a list entry, login, spawn, chat, a reply of dozens of full datagrams, a goodbye.

RakNet's first probe and its data all but fill an Ethernet frame. Where such datagrams are lost a session merely takes seconds longer, since RakNet then
tries smaller ones, so the largest probe is checked by itself.
"""

from cases import Case
from clients import raknet
from harness import LOOPBACK, NODE_MODULES, VENV_PYTHON, Failure, node, server_list_entry

VERSION = "1.21.111"
MOTD = "compatibility suite"
LARGEST_PROBE = 1464
START = 30
SESSION = 60
NOTICE = 10


def start(lab, port):
    server = lab.start("bedrock server", node("bedrock_server.js", LOOPBACK, port, VERSION))
    server.wait_event("ready", START)
    return server


def play(lab, server, address):
    entry = server_list_entry(lab, "bedrock", address)
    if (entry["motd"], entry["version"]) != (MOTD, VERSION):
        raise Failure(f"mcstatus shows {entry}")
    seen = raknet.probe(address, LARGEST_PROBE) - raknet.IP_AND_UDP_HEADERS
    if seen != LARGEST_PROBE:
        raise Failure(f"a RakNet probe of {LARGEST_PROBE} bytes arrived with {seen}")
    lab.run("bedrock player", node("bedrock_player.js", *address, VERSION), SESSION)
    for event in ("joined", "spawned", "left"):
        server.wait_event(event, NOTICE, player="alice")
    server.wait_event("chat", NOTICE, player="alice", text="hello server")


NEEDS = ("node", NODE_MODULES, VENV_PYTHON)
CASES = [Case("minecraft-bedrock", "bedrock=udp:{origin}", players=1, needs=NEEDS, start=start, play=play)]
