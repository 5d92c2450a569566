"""The games of the suite, one module each. A `Case` says how its server starts and what a complete session is; a `Scene` has a plot of its own."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness import LOOPBACK
from ports import free_port
from tunnel import Agent, DomainRelay, Relay


@dataclass(frozen=True)
class Case:
    """`start(lab, port)` starts the server on that loopback port and returns its process once it serves players.

    `play(lab, server, address)` is one complete session at `address`, which may be the server itself or its public address, and raises unless all of it
    went well. `tunnel` is the agent's argument, with `{origin}` for the server's port and, where a certain public port is wanted, `{public}` for that;
    `players` is how many of them the agent must at least have seen. `needs` are the programs and folders without which the case cannot run, `relay` says
    which of the relays it shares with others.
    """

    name: str
    tunnel: str
    players: int
    needs: tuple[str | Path, ...]
    start: Callable
    play: Callable
    relay = Relay
    needs_root = False

    def run(self, lab, relay, binary):
        """Plays directly and through the tunnel."""
        port = free_port()
        server = self.start(lab, port)
        lab.stage = "directly"
        self.play(lab, server, (LOOPBACK, port))

        lab.stage = "through the tunnel"
        server.forget()
        wanted = relay.reserve_port() if "{public}" in self.tunnel else None
        agent = Agent(lab, binary, relay.invite(self.name), self.tunnel.format(origin=port, public=wanted))
        self.play(lab, server, relay.check_public(agent.tunnel["public"], wanted))
        agent.check_players(self.players)
        agent.stop()


@dataclass(frozen=True)
class Scene:
    """What takes more than one tunnel, player or relay's life to show. `play(lab, relay)` starts all that it needs, and names its stages in `lab.stage`."""

    name: str
    needs: tuple[str | Path, ...]
    play: Callable
    needs_root: bool = False
    relay = DomainRelay

    def run(self, lab, relay, _binary):
        self.play(lab, relay)


def all_cases():
    """Every case by name, in the order of a full run."""
    from cases import (
        audit_log, dnsbl, list_away, list_away_bedrock, list_flood, luanti, mail, minecraft_bedrock, minecraft_java, minecraft_names, own_address, quic_names, real_ip,
        server_list, sites, sleeper, teeworlds, wesnoth,
    )

    modules = (
        minecraft_java, server_list, minecraft_bedrock, luanti, wesnoth, teeworlds,
        minecraft_names, list_away, list_away_bedrock, list_flood, sleeper, own_address, real_ip, sites, quic_names, mail, audit_log, dnsbl,
    )
    return {case.name: case for module in modules for case in module.CASES}
