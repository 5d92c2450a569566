"""A flood of list pings for one Minecraft server, on the shared port and on its own: the server is asked at most once while its answer is fresh."""

import time
from concurrent.futures import ThreadPoolExecutor

from cases import Scene, minecraft_java
from clients import java_ping
from harness import NODE_MODULES, Failure
from ports import free_port
from tunnel import LIST_CACHE

VERSION = minecraft_java.VERSIONS["minecraft-java"]
MOTD = "a popular world"
PINGS, AT_ONCE = 2_000, 64
NOTICE = 10
# A ping of such a crowd may have to wait for the others.
PATIENCE = 30
TUNNEL = """
[[tunnel]]
preset = "minecraft"
origin = {}
"""


def play(lab, relay):
    port = free_port()
    server = minecraft_java.start(VERSION, lab, port, MOTD)
    host = relay.host(lab, "inn", TUNNEL.format(port))
    addresses = relay.shared["minecraft"], host.public("minecraft")

    def look(number):
        status = java_ping.ask_modern(addresses[number % 2], PATIENCE, host.name, hangs_up=False)
        return status["description"]["text"]

    lab.stage = f"under {PINGS} list pings"
    began = time.monotonic()
    with ThreadPoolExecutor(AT_ONCE) as crowd:
        shown = set(crowd.map(look, range(PINGS)))
    took = time.monotonic() - began
    if shown != {MOTD}:
        raise Failure(f"the entry was {sorted(shown)}")
    # The first question comes at once, each further one when the answer before it is no longer fresh.
    asked, most = len(server.wait_events("looked", 1, NOTICE)), 1 + int(took / LIST_CACHE)
    if asked > most:
        raise Failure(f"the server was asked {asked} times in {took:.1f} s, more than {most}")
    host.stop()


CASES = [Scene("list-flood", needs=("node", NODE_MODULES), play=play)]
