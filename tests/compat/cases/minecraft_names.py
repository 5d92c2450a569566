"""Two Minecraft Java servers of two hosts on one port: players and server lists find the one whose name was typed."""

import re

from cases import Scene, minecraft_java
from clients import java_ping
from harness import LOOPBACK, NODE_MODULES, VENV_PYTHON, Failure, server_list_entry
from ports import free_port
from tunnel import DOMAIN

VERSION = minecraft_java.VERSIONS["minecraft-java"]
MOTDS = {"desk": "a world under a desk", "attic": "a world in the attic"}
UNKNOWN = "There is no server of this name here"
NOBODYS = f"nobody.{DOMAIN}"
TUNNEL = """
[[tunnel]]
preset = "minecraft"
origin = {}
"""


def play(lab, relay):
    shared, servers, hosts = relay.shared["minecraft"], {}, {}
    for name, motd in MOTDS.items():
        port = free_port()
        servers[name] = minecraft_java.start(VERSION, lab, port, motd)
        hosts[name] = relay.host(lab, name, TUNNEL.format(port))
        address = f"{hosts[name].name}:{shared[1]}"
        _expect(f"the agent of {name} says of its address", hosts[name].address("minecraft"), address)

    lab.stage = "in the server list"
    for name, motd in MOTDS.items():
        typed, own = hosts[name].name, hosts[name].public("minecraft")
        for form in (typed, f"{typed.upper()}.", f"minecraft.{typed}"):
            _expect(f"{form} shows", server_list_entry(lab, "java", shared, form)["motd"], motd)
        # The oldest games that say a name.
        question = java_ping.legacy_forms(typed, shared[1])["FE 01 FA"]
        _expect(f"{typed} shows a game of 1.6", java_ping.ask_legacy(shared, question)[-3], motd)
        # Whatever was typed to come to the port of a server's own.
        _expect(f"the port of {name}'s own shows", server_list_entry(lab, "java", own, NOBODYS)["motd"], motd)
    entry = server_list_entry(lab, "java", shared, NOBODYS)
    if entry["version"] != "Offline" or UNKNOWN not in entry["motd"]:
        raise Failure(f"a name that nobody has shows {entry}")
    minecraft_java.expect_refusal(VERSION, lab, shared, NOBODYS, UNKNOWN)

    for name, other in (("desk", "attic"), ("attic", "desk")):
        lab.stage = f"playing by the name of {name}"
        for server in servers.values():
            server.forget()
        minecraft_java.play(VERSION, lab, servers[name], shared, hosts[name].name)
        if strangers := servers[other].events_of("joined"):
            raise Failure(f"{strangers} joined {other} by the name of {name}")

    lab.stage = "in DNS"
    records = [" ".join(line.split()) for line in relay.dns()]
    wanted = [f"{name}. A {LOOPBACK}" for name in (DOMAIN, f"*.{DOMAIN}")]
    for host in hosts.values():
        # The shared port is not the one that games try first.
        wanted.append(f"_minecraft._tcp.{host.name}. SRV 0 5 {host.public('minecraft')[1]} {host.name}.")
        host.stop()
    # Without how long they may be kept.
    shown = {re.sub(r" \d+ IN ", " ", record) for record in records}
    if missing := [record for record in wanted if record not in shown]:
        raise Failure(f"`spawnpoint relay dns` does not show {missing} among {records}")


def _expect(what, got, wanted):
    if got != wanted:
        raise Failure(f"{what} {got!r} instead of {wanted!r}")


CASES = [Scene("minecraft-names", needs=("node", NODE_MODULES, VENV_PYTHON), play=play)]
