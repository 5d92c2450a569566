"""Minecraft Java over TCP: two players log in, see the world, chat with the server and each other, and leave."""

from functools import partial

from cases import Case
from harness import LOOPBACK, NODE_MODULES, node

# The second one goes through the configuration phase that came with 1.20.2.
VERSIONS = {"minecraft-java": "1.16.5", "minecraft-java-1-21": "1.21.4"}
START = 30
SESSION = 60
NOTICE = 10


def start(version, lab, port):
    server = lab.start("flying-squid", node("java_server.js", LOOPBACK, port, version))
    server.wait_event("ready", START)
    return server


def play(version, lab, server, address):
    lab.run("mineflayer", node("java_players.js", *address, version), SESSION)
    server.wait_event("chat", NOTICE, player="alice", text="hello server")
    for player in ("alice", "bob"):
        server.wait_event("joined", NOTICE, player=player)
        server.wait_event("left", NOTICE, player=player)


def _case(name, version):
    return Case(name, f"{name}=tcp:{{origin}}", players=2, needs=("node", NODE_MODULES), start=partial(start, version), play=partial(play, version))


CASES = [_case(name, version) for name, version in VERSIONS.items()]
