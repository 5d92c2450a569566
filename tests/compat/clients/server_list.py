"""What a server list shows for an address, as mcstatus sees it: python server_list.py java|legacy|bedrock HOST PORT [NAME]

NAME is what the player typed, as if DNS led from there to HOST. Prints one event `entry`. It runs in the suite's virtual environment, the only place that
has mcstatus.
"""

import json
import socket
import sys

from mcstatus import BedrockServer, JavaServer, LegacyServer

TIMEOUT = 10

kind, host, port, *typed = sys.argv[1:]
if typed:
    resolve = socket.getaddrinfo
    socket.getaddrinfo = lambda name, *rest, **options: resolve(host if name == typed[0] else name, *rest, **options)
name = typed[0] if typed else host
server = {"java": JavaServer, "legacy": LegacyServer, "bedrock": BedrockServer}[kind](name, int(port), timeout=TIMEOUT)
status = server.status()
entry = {"motd": status.motd.to_plain(), "version": status.version.name, "online": status.players.online, "max": status.players.max}
# The second line of a Bedrock server.
entry["map"] = getattr(status, "map_name", None)
print(json.dumps({"event": "entry", **entry}))
