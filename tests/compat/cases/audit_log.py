"""The audit log at a real collector: syslog-ng takes it over UDP, TCP and TLS, and reads of each line what RFC 5424 says is in it."""

import json
import time

from cases import Scene
from harness import LOOPBACK, Deadline, Failure
from ports import free_port
from servers import Authority

START = 20
ARRIVE = 20
NAME = "logs.home.test"

CONFIG = f"""
@version: current
options {{{{ keep-hostname(yes); flush-lines(1); }}}};
source s_udp {{{{ syslog(ip({LOOPBACK}) port({{udp}}) transport("udp")); }}}};
source s_tcp {{{{ syslog(ip({LOOPBACK}) port({{tcp}}) transport("tcp")); }}}};
source s_tls {{{{ syslog(ip({LOOPBACK}) port({{tls}}) transport("tls") tls(key-file("{{key}}") cert-file("{{certificate}}") peer-verify(optional-untrusted))); }}}};
template line {{{{ template("${{{{FACILITY}}}} ${{{{LEVEL}}}} ${{{{PROGRAM}}}} ${{{{MSGID}}}} ${{{{MSG}}}}\\n"); }}}};
log {{{{ source(s_udp); destination {{{{ file("{{folder}}/udp" template(line)); }}}}; }}}};
log {{{{ source(s_tcp); destination {{{{ file("{{folder}}/tcp" template(line)); }}}}; }}}};
log {{{{ source(s_tls); destination {{{{ file("{{folder}}/tls" template(line)); }}}}; }}}};
"""
TUNNEL = """
[[tunnel]]
name = "game"
protocol = "tcp"
origin = {origin}
"""


def play(lab, relay):
    folder, ports = lab.subfolder("logs"), {way: free_port() for way in ("udp", "tcp", "tls")}
    authority = Authority(lab)
    # The relay verifies the name that it was told to reach.
    certificate, key = authority.vouch("localhost")
    config = lab.folder / "syslog-ng.conf"
    config.write_text(CONFIG.format(folder=folder, certificate=certificate, key=key, **ports))
    collector = lab.start("syslog-ng", [
        "syslog-ng", "--foreground", "--no-caps", "--stderr", "--verbose", "--cfgfile", config, "--persist-file", folder / "persist", "--pidfile", folder / "pid",
        "--control", folder / "control",
    ])
    collector.wait_line("syslog-ng starting up|Syslog-ng startup|Running application hooks", START)
    for way, port in ports.items():
        lab.stage = f"over {way}"
        host = "localhost" if way == "tls" else LOOPBACK
        audit = f'[audit]\nsyslog = "{way}://{host}:{port}"\n'
        if way == "tls":
            audit += f'syslog_ca = "{authority.certificate}"\n'
        audited = relay.another(lab, "relay with a collector", audit)
        agent = audited.host(lab, f"desk-{way}", TUNNEL.format(origin=free_port()))
        agent.public("game")
        seen = _arrived(folder / way, {"ready", "invited", "first_seen", "link_up", "tunnel"})
        for name, (facility, level, program, event) in seen.items():
            if (facility, level, program, event["event"]) != ("authpriv", "info", "spawnpoint", name):
                raise Failure(f"{name} arrived as {facility}.{level} of {program}: {event}")
        if seen["invited"][3]["host"] != f"desk-{way}":
            raise Failure(f"somebody else was invited: {seen['invited']}")
        agent.stop()
        audited.stop()
        _arrived(folder / way, {"link_down", "stopped"})


def _arrived(path, wanted):
    """The first line of each of the `wanted` events in the collector's file, once all are there."""
    deadline = Deadline(ARRIVE)
    while True:
        seen = {}
        for line in path.read_text().splitlines() if path.exists() else ():
            facility, level, program, name, message = line.split(" ", 4)
            seen.setdefault(name, (facility, level, program, json.loads(message)))
        if wanted <= seen.keys():
            return {name: seen[name] for name in wanted}
        deadline.check(f"line of {', '.join(sorted(wanted - seen.keys()))} at the collector")
        time.sleep(0.05)


CASES = [Scene("audit-log", needs=("syslog-ng", "openssl"), play=play)]
