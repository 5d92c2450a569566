"""A Minecraft server that the first player's login starts, held until it is up, and that is stopped when the last one has been gone for a while."""

import json
import socket

from cases import Scene, minecraft_java
from clients import java_ping
from harness import LOOPBACK, NODE_MODULES, VENV_PYTHON, Failure, node, server_list_entry
from ports import free_port

VERSION = minecraft_java.VERSIONS["minecraft-java"]
MOTD, ASLEEP = "a world that sleeps", "This server is asleep. Join to wake it."
IDLE = 10
# Until idle, stopped, and no longer told as before.
FALL_ASLEEP = IDLE + 30
TUNNEL = f"""
[[tunnel]]
preset = "minecraft"
origin = {{origin}}
on_join = {{on_join}}
on_idle = {{on_idle}}
idle_after = "{IDLE} s"
"""


def play(lab, relay):
    port, log, pid = free_port(), lab.folder / "server.log", lab.folder / "server.pid"
    command = " ".join(map(str, node("java_server.js", LOOPBACK, port, VERSION, f"'{MOTD}'")))
    # setpriv: it belongs to the agent, and should end with it whatever happens.
    on_join = ["setpriv", "--pdeathsig", "KILL", "sh", "-c", f"echo $$ >{pid}; exec {command} >>{log} 2>&1"]
    on_idle = ["sh", "-c", f"kill $(cat {pid})"]
    host = relay.host(lab, "cave", TUNNEL.format(origin=port, on_join=json.dumps(on_join), on_idle=json.dumps(on_idle)))
    log.touch()
    # What the server says, as if the suite had started it.
    server = lab.start("flying-squid", ["tail", "-n", "+1", "-f", log])
    shared = relay.shared["minecraft"]

    lab.stage = "asleep"
    _judge_asleep(lab, shared, host, ASLEEP)
    if pid.exists():
        raise Failure("a look at the server list has started the server")

    lab.stage = "woken by a login"
    minecraft_java.play(VERSION, lab, server, shared, host.name)
    if (starts := len(server.events_of("ready"))) != 1:
        raise Failure(f"the server was started {starts} times")
    entry = server_list_entry(lab, "java", shared, host.name)
    if (entry["motd"], entry["version"]) != (MOTD, VERSION):
        raise Failure(f"mcstatus shows {entry}")

    lab.stage = "asleep again"
    java_ping.wait_for_status(shared, host.name, "says that it is asleep", lambda status: ASLEEP in str(status["description"]), FALL_ASLEEP)
    _judge_asleep(lab, shared, host, f"{MOTD}\n{ASLEEP}")
    with socket.socket() as probe:
        if probe.connect_ex((LOOPBACK, port)) == 0:
            raise Failure("the server still runs")
    host.stop()


def _judge_asleep(lab, address, host, motd):
    entry = server_list_entry(lab, "java", address, host.name)
    if (entry["motd"], entry["version"], entry["online"]) != (motd, "Offline", 0):
        raise Failure(f"mcstatus shows {entry}")


CASES = [Scene("sleeper", needs=("node", NODE_MODULES, VENV_PYTHON), play=play)]
