"""The games of the suite, one module each. A case says how its server starts and what a complete session is; `run` says where it is played."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Case:
    """`start(lab, port)` starts the server on that loopback port and returns its process once it serves players.

    `play(lab, server, address)` is one complete session at `address`, which may be the server itself or its public address, and raises unless all of it
    went well. `tunnel` is the agent's argument, with `{origin}` for the server's port and, where a certain public port is wanted, `{public}` for that;
    `players` is how many of them the agent must at least have seen. `needs` are the programs and folders without which the case cannot run.
    """

    name: str
    tunnel: str
    players: int
    needs: tuple[str | Path, ...]
    start: Callable
    play: Callable


def all_cases():
    """Every case by name, in the order of a full run."""
    from cases import luanti, minecraft_bedrock, minecraft_java, server_list, teeworlds, wesnoth

    modules = (minecraft_java, server_list, minecraft_bedrock, luanti, wesnoth, teeworlds)
    return {case.name: case for module in modules for case in module.CASES}
