"""A list that is asked through DNS, at a real list server: rbldnsd has an address, and whoever comes from there does not get to the site behind the tunnel."""

import os
import subprocess
import sys

from cases import Scene
from harness import LOOPBACK, Failure
from ports import free_port

START = 20
ZONE = "bl.home.test"
LISTED, AT_HOME, CLEAR = "127.0.7.1", "127.0.7.2", "127.0.7.3"
# Two lists in one: 127.0.0.4 for machines that were broken into, 127.0.0.10 for lines at home, as real ones have them.
LIST = f"""
:127.0.0.4:broken into
127.0.0.2
{LISTED}
:127.0.0.10:a line at home
{AT_HOME}
"""
DNSBL = f"""
[dnsbl]
lists = ["{ZONE}=2-9"]
server = "{LOOPBACK}:{{port}}"
"""
TUNNEL = """
[[tunnel]]
name = "site"
protocol = "tcp"
origin = {origin}
"""


def play(lab, relay):
    folder, dns, origin = lab.subfolder("lists"), free_port(), free_port()
    (folder / "list").write_text(LIST)
    # It does not run as root; its package brings a user of its own, who may read nobody's home.
    as_daemon = ("-u", "rbldns") if os.geteuid() == 0 else ()
    folder.chmod(0o755)
    lab.folder.chmod(0o711)
    lists = lab.start("rbldnsd", [
        "rbldnsd", "-n", "-f", "-b", f"{LOOPBACK}/{dns}", *as_daemon, "-w", folder, f"{ZONE}:ip4set:list",
    ])
    lists.wait_line("started", START)
    site = lab.start("site", [sys.executable, "-u", "-m", "http.server", str(origin), "--bind", LOOPBACK, "--directory", folder])
    site.wait_line("Serving HTTP", START)
    lab.stage = "with a list"
    guarded = relay.another(lab, "relay with a list", DNSBL.format(port=dns))
    agent = guarded.host(lab, "desk", TUNNEL.format(origin=origin))
    host, port = agent.public("site")
    for player, is_in in ((LISTED, False), (AT_HOME, True), (CLEAR, True), (LISTED, False)):
        asked = subprocess.run(
            ["curl", "--silent", "--show-error", "--max-time", str(START), "--interface", player, f"http://{host}:{port}/list"],
            capture_output=True, text=True, check=False,
        )
        if (asked.returncode == 0) != is_in or is_in and asked.stdout != LIST:
            raise Failure(f"{player} was {'not let in' if is_in else 'let in'}: {asked.returncode}, {asked.stderr.strip()}")
    lab.stage = "without a list server"
    lists.kill()
    # Whoever was not asked about yet comes in.
    subprocess.run(["curl", "--silent", "--fail", "--max-time", str(START), "--interface", "127.0.7.9", f"http://{host}:{port}/list"], capture_output=True, check=True)
    agent.stop()
    guarded.stop()


CASES = [Scene("dnsbl", needs=("rbldnsd", "curl"), play=play)]
