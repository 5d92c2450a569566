"""Luanti (Minetest) over UDP: two players register, receive the definitions of the game, enter the world, chat and leave."""

import secrets

from cases import Case
from clients.luanti import Player
from harness import LOOPBACK, Failure

START = 30
NOTICE = 10
# Of the items, nodes and media that `devtest` describes; far more than fits one datagram.
LEAST_DEFINITIONS = 20_000

CONFIG = f"""
bind_address = {LOOPBACK}
server_announce = false
enable_ipv6 = false
"""


def start(lab, port):
    config = lab.folder / "minetest.conf"
    config.write_text(CONFIG)
    server = lab.start("minetestserver", [
        "minetestserver", "--gameid", "devtest", "--config", config, "--world", lab.folder / "world", "--port", port,
        "--logfile", lab.folder / "debug.txt",
    ])
    server.wait_line(rf"listening on {LOOPBACK}:{port}", START)
    return server


def play(lab, server, address):
    # Names are new in every session, because the server remembers who has registered.
    alice, bob = (Player(address, f"{name}_{secrets.token_hex(4)}") for name in ("alice", "bob"))
    for player in (alice, bob):
        size = player.join()
        if size < LEAST_DEFINITIONS:
            raise Failure(f"{player.name} received definitions of only {size} bytes")
        server.wait_line(rf"{player.name} \S+ joins game", NOTICE)
    alice.say("good morning bob")
    bob.hear(f"<{alice.name}> good morning bob")
    bob.say("good morning alice")
    alice.hear(f"<{bob.name}> good morning alice")
    for player in (alice, bob):
        player.leave()
        server.wait_line(f"{player.name} leaves game", NOTICE)


CASES = [Case("luanti", "luanti=udp:127.0.0.1:{origin}@{public}", players=2, needs=("minetestserver",), start=start, play=play)]
