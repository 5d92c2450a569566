"""Minecraft Java over TCP: two players log in, see the world, chat with the server and each other, and leave."""

from functools import partial

from cases import Case
from harness import LOOPBACK, NODE_MODULES, Failure, node

# The second one goes through the configuration phase that came with 1.20.2.
VERSIONS = {"minecraft-java": "1.16.5", "minecraft-java-1-21": "1.21.4"}
START = 30
SESSION = 60
NOTICE = 10


def start(version, lab, port, *motd):
    server = lab.start("flying-squid", node("java_server.js", LOOPBACK, port, version, *motd))
    server.wait_event("ready", START)
    return server


def play(version, lab, server, address, *typed):
    """`typed` is the name that the players typed, if it was one."""
    finish(send_players(version, lab, address, *typed), server)


def send_players(version, lab, address, *typed):
    return lab.start("mineflayer", node("java_players.js", *address, version, *typed))


def finish(players, server):
    """Sees the session of two players to its end."""
    players.succeed(SESSION)
    server.wait_event("chat", NOTICE, player="alice", text="hello server")
    for player in ("alice", "bob"):
        server.wait_event("joined", NOTICE, player=player)
        server.wait_event("left", NOTICE, player=player)


def expect_refusal(version, lab, address, typed, words):
    """A player joins, and must be told `words` in the game."""
    player = lab.run("refused player", node("java_refused.js", *address, version, typed), SESSION)
    said = player.wait_event("refused", NOTICE)["words"]
    if words not in said:
        raise Failure(f"a player of {version} is told {said!r} instead of {words!r}")


def _case(name, version):
    return Case(name, f"{name}=tcp:{{origin}}", players=2, needs=("node", NODE_MODULES), start=partial(start, version), play=partial(play, version))


CASES = [_case(name, version) for name, version in VERSIONS.items()]
