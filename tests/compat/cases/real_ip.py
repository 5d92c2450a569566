"""Who a player is, as nginx and haproxy read it from the PROXY protocol: in HTTP, where the server speaks first, and behind a proxy of the relay."""

import socket

from cases import Scene
from harness import LOOPBACK, Deadline, Failure
from ports import free_port
from servers import NGINX_STREAM, start_haproxy, start_nginx
from tunnel import PROXY

PLAYER = "127.0.0.7"
ANSWER = 10
WAYS = {"v1": "proxy-v1", "v2": "proxy-v2"}

NGINX_HTTP = f'server {{{{ listen {LOOPBACK}:{{}} proxy_protocol; return 200 "$proxy_protocol_addr\\n"; }}}}'
NGINX_STREAM_SERVER = f'server {{{{ listen {LOOPBACK}:{{}} proxy_protocol; return "$proxy_protocol_addr\\n"; }}}}'
HAPROXY = f"""
frontend web
    mode http
    bind {LOOPBACK}:{{}} accept-proxy
    http-request return status 200 content-type text/plain lf-string "%[src]\\n"
"""
# A load balancer or a protection against floods, which tells the relay who comes.
EDGE = f"""
listen edge
    mode tcp
    bind {LOOPBACK}:{{port}}
    source {PROXY}
    server relay {LOOPBACK}:{{public}} {{say}}
"""
TUNNEL = """
[[tunnel]]
name = "{name}"
protocol = "tcp"
origin = {origin}
real_ip = "{real_ip}"
"""


def play(lab, relay):
    origins = {judge: free_port() for judge in ("nginx", "nginx-stream", "haproxy")}
    start_nginx(lab, origins["nginx"], NGINX_HTTP.format(origins["nginx"]), NGINX_STREAM_SERVER.format(origins["nginx-stream"]))
    start_haproxy(lab, "haproxy", origins["haproxy"], HAPROXY.format(origins["haproxy"]))
    tunnels = {(judge, way): f"{judge}-{way}" for judge in origins for way in WAYS}
    host = relay.host(lab, "judges", "".join(
        TUNNEL.format(name=name, origin=origins[judge], real_ip=WAYS[way]) for (judge, way), name in tunnels.items()
    ))
    for (judge, way), name in tunnels.items():
        lab.stage = f"read by {judge} from {WAYS[way]}"
        _expect_player(lab, judge, host.public(name))

    for way, say in (("v1", "send-proxy"), ("v2", "send-proxy-v2")):
        for judge in origins:
            lab.stage = f"{say} of haproxy before the relay, read by {judge} from {WAYS[way]}"
            edge = free_port()
            _, public = host.public(tunnels[judge, way])
            start_haproxy(lab, f"edge {say} {judge}", edge, EDGE.format(port=edge, public=public, say=say))
            _expect_player(lab, judge, (LOOPBACK, edge))
    host.stop()


def _expect_player(lab, judge, address):
    seen = _listen(address) if judge == "nginx-stream" else _fetch(lab, address)
    if seen != PLAYER:
        raise Failure(f"the server sees {seen!r} instead of {PLAYER}")


def _fetch(lab, address):
    host, port = address
    curl = lab.run("curl", ["curl", "-sS", "--fail", "--max-time", ANSWER, "--interface", PLAYER, f"http://{host}:{port}/"], ANSWER + 5)
    return "\n".join(curl.stdout)


def _listen(address):
    """Says nothing, and returns what the server says until it hangs up."""
    deadline, heard = Deadline(ANSWER), b""
    with socket.create_connection(address, ANSWER, source_address=(PLAYER, 0)) as player:
        while True:
            player.settimeout(deadline.check("end of what the server says"))
            part = player.recv(1024)
            if not part:
                return heard.decode().rstrip()
            heard += part


CASES = [Scene("real-ip", needs=("nginx", NGINX_STREAM, "haproxy", "curl"), play=play)]
