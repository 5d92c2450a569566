"""What Minecraft players see of a server that is away: its agent gone for a moment, its server stopped, its agent stopped, and the relay restarted meanwhile.

Who joins while the agent is gone for a moment waits and gets in; later they are told why not. The entry of the server list stays, with the reason in it.
"""

from cases import Scene, minecraft_java
from clients import java_ping
from harness import NODE_MODULES, VENV_PYTHON, Failure, server_list_entry
from ports import free_port

VERSION = minecraft_java.VERSIONS["minecraft-java"]
MOTD, MAX_PLAYERS = "a world that comes and goes", 7
DOWN, OFFLINE = "This server is not running right now", "This server is offline, last seen"
TUNNEL = """
[[tunnel]]
preset = "minecraft"
origin = {}
"""
STOP = 10
# The relay tells an entry again for a moment, and an agent takes seconds to notice that the relay is another one.
CHANGE = 30


def play(lab, relay):
    port = free_port()
    server = minecraft_java.start(VERSION, lab, port, MOTD)
    host = relay.host(lab, "guest-house", TUNNEL.format(port))
    own = host.public("minecraft")
    _judge_present(lab, relay, host, own)

    for is_noticed in (False, True):
        lab.stage = f"joining while the agent is gone for a moment, which the relay has {'' if is_noticed else 'not '}noticed"
        host.kill()
        if is_noticed:
            relay.wait_parked(host)
        server.forget()
        players = minecraft_java.send_players(VERSION, lab, relay.shared["minecraft"], host.name)
        players.wait_event("connected", CHANGE, player="alice")
        host.start()
        minecraft_java.finish(players, server)

    lab.stage = "after the server has stopped"
    server.terminate()
    server.wait_exit(STOP)
    _judge_away(lab, relay, host, own, DOWN)
    lab.stage = "after the relay was restarted without the server"
    relay.restart()
    _judge_away(lab, relay, host, own, DOWN)

    lab.stage = "after the agent has stopped"
    host.stop()
    _judge_away(lab, relay, host, own, OFFLINE)
    lab.stage = "after the relay was restarted without the agent"
    relay.restart()
    _judge_away(lab, relay, host, own, OFFLINE)

    lab.stage = "when all are back"
    minecraft_java.start(VERSION, lab, port, MOTD)
    host.start()
    if (back := host.public("minecraft")) != own:
        raise Failure(f"the public address was {own} and is {back}")
    _judge_present(lab, relay, host, own)
    host.stop()


def _judge_present(lab, relay, host, own):
    for address in (relay.shared["minecraft"], own):
        java_ping.wait_for_status(address, host.name, f"is of {VERSION}", lambda status: status["version"]["name"] == VERSION, CHANGE)
        entry = server_list_entry(lab, "java", address, host.name)
        if entry != {**entry, "motd": MOTD, "version": VERSION, "online": 0, "max": MAX_PLAYERS}:
            raise Failure(f"mcstatus shows {entry} at {address}")


def _judge_away(lab, relay, host, own, words):
    """Waits until the entry has `words`, and has mcstatus judge it: below the server's own first line, without players, labelled. So are players told."""
    for address in (relay.shared["minecraft"], own):
        java_ping.wait_for_status(address, host.name, f"says {words!r}", lambda status: words in str(status["description"]), CHANGE)
        entry = server_list_entry(lab, "java", address, host.name)
        first, _, second = entry["motd"].partition("\n")
        if (first, entry["version"], entry["online"], entry["max"]) != (MOTD, "Offline", 0, MAX_PLAYERS) or not second.startswith(words):
            raise Failure(f"mcstatus shows {entry} at {address}")
        # Games up to 1.6 have one line.
        question = java_ping.legacy_forms(host.name, address[1])["FE 01 FA"]
        answer = java_ping.ask_legacy(address, question)
        if answer[-4:] != ["Offline", f"{MOTD} {second}", "0", str(MAX_PLAYERS)]:
            raise Failure(f"a game of 1.6 is shown {answer} at {address}")
    for version in minecraft_java.VERSIONS.values():
        minecraft_java.expect_refusal(version, lab, own, host.name, words)


CASES = [Scene("list-away", needs=("node", NODE_MODULES, VENV_PYTHON), play=play)]
