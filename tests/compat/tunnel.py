"""`spawnpoint relay` and `spawnpoint agent` as the suite sees them: command lines, files, invites and JSON events, nothing from inside."""

import re

from harness import LOOPBACK, Failure
from ports import free_port, free_ports

START = 20
# How long to wait for the first SIGTERM and for the second.
DRAIN = 3
AT_ONCE = 3
# Long enough for a FIN to cross two processes on a busy machine, far below any idle limit.
LEAVE = 10
# How long the relay may take to notice that an agent has fallen silent.
NOTICE = 15
PUBLIC_PORTS = 32

DOMAIN = "play.example.org"
# Where the proxy in front of the relay connects from.
PROXY = "127.0.0.2"
# For how many seconds the relay tells a server's entry again instead of asking.
LIST_CACHE = 1
RELAY_TOML = f"""
listen = "{LOOPBACK}:{{listen}}"
public_host = "{LOOPBACK}"
data_dir = "{{data}}"
domain = "{DOMAIN}"

[shared]
minecraft = "{{minecraft}}"
tls = "{{tls}}"
http = "{{http}}"
quic = "{{quic}}"

[players]
bind = "{LOOPBACK}"
ports = "{{first}}-{{last}}"
# All players of the suite share an address.
max_players_per_address = 512
max_half_open_per_address = 512
new_players_per_tunnel = "5000/s"
new_players_per_address = "5000/s"
new_players_burst = 5000
list_cache = "{LIST_CACHE} s"
proxy_from = ["{PROXY}/32"]

[admin]
listen = "{LOOPBACK}:{{admin}}"
"""


class Relay:
    """The relay that the games of one run share. Each case is a host of its own on it."""

    name = "relay"

    def __init__(self, lab, binary):
        self._lab = lab
        self._binary = binary
        self._data = lab.subfolder("relay-data")
        self._ports = free_ports(PUBLIC_PORTS)
        self._assigned = set()
        self._options = self._configure()
        self._start()

    def _configure(self):
        """Returns the options that the relay is started with."""
        return [
            "--data-dir", self._data, "--listen", f"{LOOPBACK}:{free_port()}", "--public-host", LOOPBACK,
            "--ports", f"{self._ports[0]}-{self._ports[-1]}", "--admin", f"{LOOPBACK}:{free_port()}",
        ]

    def _start(self):
        self._process = self._lab.start(self.name, [self._binary, "relay", *self._options, "--json"])
        self._process.wait_event("ready", START, role="relay")

    def invite(self, name):
        process = self._lab.run("invite", [self._binary, "invite", name, "--data-dir", self._data], START)
        if len(process.stdout) != 1 or not process.stdout[0].strip():
            raise Failure(f"invite printed {len(process.stdout)} lines on stdout instead of one invite")
        return process.stdout[0].strip()

    def reserve_port(self):
        """A public port that no tunnel of this run has yet."""
        return next(port for port in self._ports if port not in self._assigned)

    def check_public(self, public, asked_for=None):
        """Turns the `public` of a tunnel event into an address, which must be this relay's and, if a port was asked for, that port."""
        host, _, port = public.rpartition(":")
        if host != LOOPBACK or not port.isdigit() or int(port) not in self._ports:
            raise Failure(f"public address {public} is not {LOOPBACK} with a port of {self._ports[0]}-{self._ports[-1]}")
        if asked_for not in (None, int(port)):
            raise Failure(f"public address {public} although port {asked_for} was asked for")
        self._assigned.add(int(port))
        return host, int(port)

    def check_alive(self):
        if self._process.returncode() is not None:
            raise Failure(f"the {self.name} ended with {self._process.returncode()}")

    def stop(self):
        self.check_alive()
        _stop(self._process, players_linger=True)

    def tail(self):
        return self._process.tail()


class DomainRelay(Relay):
    """The relay that the scenes of one run share. It is started from a relay.toml, with a domain and ports on which hosts are told apart by name.

    Whoever connects from PROXY must say in the PROXY protocol who the player is.
    """

    name = "relay with a domain"

    def __init__(self, lab, binary, more=""):
        self._more = more
        super().__init__(lab, binary)

    def another(self, lab, name, more):
        """Starts another relay for the case of `lab`, whose relay.toml has the sections `more` besides."""
        kind = type(name, (type(self),), {"name": name})
        return kind(lab, self._binary, more)

    def _configure(self):
        self.shared = {dialect: (LOOPBACK, free_port()) for dialect in ("minecraft", "tls", "http", "quic")}
        self._file = self._lab.folder / "relay.toml"
        self._file.write_text(RELAY_TOML.format(
            listen=free_port(), admin=free_port(), data=self._data, first=self._ports[0], last=self._ports[-1],
            **{dialect: port for dialect, (_, port) in self.shared.items()},
        ) + "\n" + self._more)
        return ["--config", self._file]

    def host(self, lab, name, tunnels):
        """Starts the agent of a new host, whose tunnels are the text of the `[[tunnel]]` tables."""
        return Host(lab, self._binary, self, name, tunnels)

    def restart(self):
        self.stop()
        self._start()

    def wait_parked(self, host):
        """Waits until the relay has noticed that the agent of `host` is gone without a word."""
        self._process.wait_event("parked", NOTICE, host=host.name.removesuffix(f".{DOMAIN}"))

    def dns(self):
        """The records that the relay wants its operator to make."""
        return self._lab.run("dns", [self._binary, "relay", "dns", "--config", self._file, "--no-check"], START).stdout


class Host:
    """An agent that is started from an agent.toml, and can be stopped and started again."""

    def __init__(self, lab, binary, relay, name, tunnels):
        self._lab, self._binary, self._relay = lab, binary, relay
        self.name = f"{name}.{DOMAIN}"
        self._state = lab.subfolder(f"{name}-state")
        self._file = lab.folder / f"{name}.toml"
        # It has the invite in it.
        self._file.touch(0o600)
        self._file.write_text(f'invite = "{relay.invite(name)}"\n{tunnels}')
        self.start()

    def start(self):
        self._process = self._lab.start(
            f"agent of {self.name}", [self._binary, "agent", "--config", self._file, "--state-dir", self._state, "--json"],
        )
        self._process.wait_event("ready", START, role="agent")

    def public(self, tunnel):
        """The public address of a tunnel's own."""
        return self._relay.check_public(self._tunnel(tunnel)["public"])

    def address(self, tunnel):
        """What players are told to type."""
        return self._tunnel(tunnel).get("address")

    def _tunnel(self, tunnel):
        return self._process.wait_event("tunnel", START, tunnel=tunnel)

    def players(self):
        """Who plays by `spawnpoint agent players`: true address, protocol, the address that the server sees (or None) and tunnel of each."""
        asked = self._lab.run("players", [self._binary, "agent", "players", "--state-dir", self._state], START)
        lines = (re.match(r"(\S+):\d+ (tcp|udp) +(\S+) +(\S+) ", line) for line in asked.log)
        return [(ip, protocol, None if seen == "-" else seen, tunnel) for ip, protocol, seen, tunnel in (line.groups() for line in lines if line)]

    def stop(self, players_linger=False):
        _stop(self._process, players_linger)

    def kill(self):
        """It has no time to say goodbye."""
        self._process.kill()


class Agent:
    """The agent of one case, with one tunnel."""

    def __init__(self, lab, binary, invite, tunnel):
        self._process = lab.start(
            "agent", [binary, "agent", "--state-dir", lab.subfolder("agent-state"), "--json", tunnel], env={"SPAWNPOINT_INVITE": invite},
        )
        self._process.wait_event("ready", START, role="agent")
        self.tunnel = self._process.wait_event("tunnel", START)

    def check_players(self, at_least):
        """Every player must have been announced; over TCP, where leaving is visible, each must have been seen to leave as well."""
        self._process.wait_events("player_joined", at_least, LEAVE)
        if self.tunnel["protocol"] == "tcp":
            joined = len(self._process.events_of("player_joined"))
            self._process.wait_events("player_left", joined, LEAVE)

    def stop(self):
        _stop(self._process, players_linger=self.tunnel["protocol"] == "udp")


def _stop(process, players_linger):
    """Asks `process` to stop, which must end it with 0.

    UDP players count as present until they have been idle for long enough, and stopping waits for players. Where they linger the process may be asked
    twice, which must end it at once.
    """
    process.terminate()
    try:
        code = process.wait_exit(DRAIN)
    except Failure:
        if not players_linger:
            raise
        process.terminate()
        process.wait_exit(AT_ONCE)
        return
    if code != 0:
        raise Failure(f"{process.name} ended with {code} on SIGTERM")
