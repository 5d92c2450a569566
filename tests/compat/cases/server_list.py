"""The Minecraft Java server list over TCP: the modern ping and its three predecessors, asked by mcstatus and byte by byte."""

from cases import Case, minecraft_java
from clients import java_ping
from harness import NODE_MODULES, VENV_PYTHON, Failure, server_list_entry

VERSION = minecraft_java.VERSIONS["minecraft-java"]
MOTD, MAX_PLAYERS = "compatibility suite", 7


def start(lab, port):
    return minecraft_java.start(VERSION, lab, port)


def play(lab, server, address):
    status = java_ping.ask_modern(address)
    _expect("modern ping", (status["description"]["text"], status["players"]["max"]), (MOTD, MAX_PLAYERS))
    for form, question in java_ping.legacy_forms(*address).items():
        # The oldest form is answered without a version.
        expected = [MOTD, "0", str(MAX_PLAYERS)]
        _expect(f"legacy ping {form}", java_ping.ask_legacy(address, question)[-3:], expected)
    for kind in ("java", "legacy"):
        entry = server_list_entry(lab, kind, address)
        _expect(f"mcstatus ({kind})", (entry["motd"], entry["max"], entry["version"]), (MOTD, MAX_PLAYERS, VERSION))


def _expect(who, got, wanted):
    if got != wanted:
        raise Failure(f"{who} shows {got} instead of {wanted}")


NEEDS = ("node", NODE_MODULES, VENV_PYTHON)
# The only tunnel without a name of its own: the agent must find one.
CASES = [Case("server-list", "tcp:127.0.0.1:{origin}", players=6, needs=NEEDS, start=start, play=play)]
