"""Players of a UDP game that takes only so many from one address: through the tunnel each has one of their own, and the host can look up whose it is."""

import contextlib

from cases import Scene, teeworlds
from clients.teeworlds import Player
from harness import LOOPBACK, Failure
from ports import free_port

# What the server allows by default.
MOST_OF_AN_ADDRESS = 4
NOTICE = 10
TUNNELS = """
[[tunnel]]
preset = "ddnet"
origin = {origin}

[[tunnel]]
name = "plain"
protocol = "udp"
origin = {origin}
real_ip = "off"
"""


def play(lab, relay):
    port = free_port()
    server = teeworlds.start(lab, port)
    host = relay.host(lab, "arena", TUNNELS.format(origin=port))

    # Each player has an address of their own, which the server knows nothing of.
    lab.stage = "all by one address"
    try:
        with _players(server, host.public("plain"), MOST_OF_AN_ADDRESS + 1):
            raise Failure(f"the server takes more than {MOST_OF_AN_ADDRESS} players from one address, so this case shows nothing")
    except Failure as failure:
        if "same IP" not in str(failure):
            raise

    lab.stage = "each by an address of their own"
    server.forget()
    with _players(server, host.public("ddnet"), MOST_OF_AN_ADDRESS + 2) as sources:
        listed = {ip: seen for ip, _, seen, tunnel in host.players() if tunnel == "ddnet"}
        if listed.keys() != sources.keys():
            raise Failure(f"`spawnpoint agent players` lists {sorted(listed)} instead of {sorted(sources)}")
        if listed != sources:
            raise Failure(f"the server sees {sources}, `spawnpoint agent players` says {listed}")
    strange = [seen for seen in sources.values() if not seen.startswith("127.") or seen == LOOPBACK]
    if strange or len(set(sources.values())) < len(sources):
        raise Failure(f"players are seen as {sources}")
    host.stop(players_linger=True)


@contextlib.contextmanager
def _players(server, address, count):
    """Has `count` players in the match, each from an address of their own, and yields for each of these the one that the server sees."""
    players, sources = {}, {}
    try:
        for number in range(count):
            source = f"127.0.1.{number + 1}"
            players[number] = player = Player(address, f"player{number}", source=source)
            player.join()
            sources[source] = server.wait_line(rf"player has entered the game\. ClientID={number} addr=([0-9.]+):", NOTICE).group(1)
        yield sources
    finally:
        for player in players.values():
            player.leave()
        for number in range(len(sources)):
            server.wait_line(f"leave player='{number}:player{number}'", NOTICE)


CASES = [Scene("own-address", needs=(teeworlds.SERVER,), play=play)]
