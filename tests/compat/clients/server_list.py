"""What a server list shows for an address, as mcstatus sees it: python server_list.py java|legacy|bedrock HOST PORT

Prints one event `entry`. It runs in the suite's virtual environment, the only place that has mcstatus.
"""

import json
import sys

from mcstatus import BedrockServer, JavaServer, LegacyServer

TIMEOUT = 10

kind, host, port = sys.argv[1:]
server = {"java": JavaServer, "legacy": LegacyServer, "bedrock": BedrockServer}[kind](host, int(port), timeout=TIMEOUT)
status = server.status()
entry = {"motd": status.motd.to_plain(), "version": status.version.name, "online": status.players.online, "max": status.players.max}
print(json.dumps({"event": "entry", **entry}))
