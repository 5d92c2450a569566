"""`spawnpoint relay` and `spawnpoint agent` as the suite sees them: command lines, invites and JSON events, nothing from inside."""

from harness import LOOPBACK, Failure
from ports import free_port, free_ports

START = 20
# How long to wait for the first SIGTERM and for the second.
DRAIN = 3
AT_ONCE = 3
# Long enough for a FIN to cross two processes on a busy machine, far below any idle limit.
LEAVE = 10
PUBLIC_PORTS = 32


class Relay:
    """The relay that the cases of one run share. Each case is a host of its own on it."""

    def __init__(self, lab, binary):
        self._lab = lab
        self._binary = binary
        self._data = lab.subfolder("relay-data")
        self._ports = free_ports(PUBLIC_PORTS)
        self._assigned = set()
        self._process = lab.start("relay", [
            binary, "relay", "--data-dir", self._data, "--listen", f"{LOOPBACK}:{free_port()}", "--public-host", LOOPBACK,
            "--ports", f"{self._ports[0]}-{self._ports[-1]}", "--admin", f"{LOOPBACK}:{free_port()}", "--json",
        ])
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
            raise Failure(f"the relay ended with {self._process.returncode()}")

    def stop(self):
        self.check_alive()
        _stop(self._process, players_linger=True)

    def tail(self):
        return self._process.tail()


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
