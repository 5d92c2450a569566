"""The Battle for Wesnoth over TCP: two players log in to the lobby, chat and leave.

The server cannot be told an address: alone in this suite it listens on all of them.
"""

from cases import Case
from clients.wesnoth import Player
from ports import wait_for_listener

SERVER = "wesnothd-1.16"
START = 20
NOTICE = 10


def start(lab, port):
    server = lab.start("wesnothd", [SERVER, "--log-info=all", "--port", port])
    wait_for_listener(server, port, START)
    return server


def play(lab, server, address):
    alice, bob = Player(address, "alice"), Player(address, "bob")
    alice.say("good morning bob")
    bob.hear(alice, "good morning bob")
    bob.say("good morning alice")
    alice.hear(bob, "good morning alice")
    for player in (alice, bob):
        player.leave()
        server.wait_line(rf"{player.name}\s+has logged off", NOTICE)


CASES = [Case("wesnoth", "wesnoth=tcp:{origin}@{public}", players=2, needs=(SERVER,), start=start, play=play)]
