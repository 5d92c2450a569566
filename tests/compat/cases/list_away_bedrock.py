"""The server list entry of a Bedrock server that is stopped, and whose agent is, also after the relay was restarted: its own, with the reason below."""

from cases import Scene, list_away, minecraft_bedrock
from clients import raknet
from harness import Failure, server_list_entry
from ports import free_port

WORLD = "nowhere"
TUNNEL = """
[[tunnel]]
preset = "bedrock"
origin = {}
"""


def play(lab, relay):
    port = free_port()
    server = minecraft_bedrock.start(lab, port)
    host = relay.host(lab, "boat", TUNNEL.format(port))
    own = host.public("bedrock")
    _judge(lab, own, WORLD)

    lab.stage = "after the server has stopped"
    server.terminate()
    server.wait_exit(list_away.STOP)
    _judge(lab, own, list_away.DOWN)
    lab.stage = "when the server is back"
    minecraft_bedrock.start(lab, port)
    _judge(lab, own, WORLD)

    lab.stage = "after the agent has stopped"
    host.stop(players_linger=True)
    _judge(lab, own, list_away.OFFLINE)
    lab.stage = "after the relay was restarted without the agent"
    relay.restart()
    _judge(lab, own, list_away.OFFLINE)

    lab.stage = "when the agent is back"
    host.start()
    if (back := host.public("bedrock")) != own:
        raise Failure(f"the public address was {own} and is {back}")
    _judge(lab, own, WORLD)
    host.stop(players_linger=True)


def _judge(lab, address, second):
    raknet.wait_for_entry(address, second, list_away.CHANGE)
    entry = server_list_entry(lab, "bedrock", address)
    if (entry["motd"], entry["online"]) != (minecraft_bedrock.MOTD, 0) or not entry["map"].startswith(second):
        raise Failure(f"mcstatus shows {entry} instead of a second line that begins with {second!r}")


CASES = [Scene("list-away-bedrock", needs=minecraft_bedrock.NEEDS, play=play)]
