"""Teeworlds 0.7 over UDP: a server list entry, then two players join the match, chat and leave."""

from cases import Case
from clients.teeworlds import Player
from harness import LOOPBACK, Failure

SERVER = "teeworlds-server"
NAME, MAP = "compatibility suite", "dm1"
START = 20
NOTICE = 10

CONFIG = f"""
sv_name "{NAME}"
sv_map {MAP}
sv_register 0
sv_spamprotection 0
bindaddr {LOOPBACK}
"""


def start(lab, port):
    config = lab.folder / "server.cfg"
    config.write_text(f"{CONFIG}sv_port {port}\n")
    server = lab.start("teeworlds", [SERVER, "-f", config.name])
    server.wait_line("server name is", START)
    return server


def play(lab, server, address):
    alice, bob = Player(address, "alice"), Player(address, "bob")
    _, name, _, map_name, _ = alice.server_info()
    if (name, map_name) != (NAME, MAP):
        raise Failure(f"the server list shows {name!r} with map {map_name!r}")
    for player in (alice, bob):
        player.join()
        server.wait_line(f"team_join player='.:{player.name}'", NOTICE)
    for speaker, listener in ((alice, bob), (bob, alice)):
        speaker.tell(listener)
    for player in (alice, bob):
        player.leave()
        server.wait_line(f"leave player='.:{player.name}'", NOTICE)


CASES = [Case("teeworlds", "teeworlds=udp:{origin}", players=2, needs=(SERVER,), start=start, play=play)]
