"""Two QUIC servers of two hosts on one port, told apart by the server name in the first packets, with certificates that stay at the hosts."""

from cases import Scene
from harness import HERE, LOOPBACK, VENV_PYTHON, Failure
from ports import free_port
from servers import Authority
from tunnel import DOMAIN

START = 20
VISIT = 20
# More than one packet, and more than one flight of them.
BYTES = 100_000
# Others are answered within a tenth of this.
SILENCE = 3


def play(lab, relay):
    authority, hosts = Authority(lab), []
    for word in ("garden", "cellar"):
        name, port = f"{word}.{DOMAIN}", free_port()
        server = lab.start(f"QUIC server of {word}", _python("quic_server.py", LOOPBACK, port, *authority.vouch(name), word))
        server.wait_event("ready", START)
        host = relay.host(lab, word, f'[[tunnel]]\npreset = "hytale"\norigin = {port}\n')
        if host.address("hytale") != (shown := f"{name}:{relay.shared['quic'][1]}"):
            raise Failure(f"players are told to type {host.address('hytale')} instead of {shown}")
        hosts.append((word, host))

    for word, host in hosts:
        for where, address in ("by name", relay.shared["quic"]), ("at its own port", host.public("hytale")):
            lab.stage = f"{word} {where}"
            player = lab.run("QUIC player", _python("quic_player.py", *address, host.name, authority.certificate, BYTES), VISIT)
            heard = player.wait_event("heard", 1)["word"]
            if heard != word:
                raise Failure(f"who wants {host.name} is with {heard}")

    lab.stage = "by a name that nobody has"
    stranger = lab.start("QUIC player", _python("quic_player.py", *relay.shared["quic"], f"nobody.{DOMAIN}", authority.certificate, 1, SILENCE))
    if stranger.wait_exit(VISIT) == 0:
        raise Failure(f"who wants nobody is answered: {stranger.log}")
    for _, host in hosts:
        host.stop(players_linger=True)


def _python(script, *arguments):
    return [VENV_PYTHON, HERE / "clients" / script, *arguments]


CASES = [Scene("quic-names", needs=(VENV_PYTHON, "openssl"), play=play)]
