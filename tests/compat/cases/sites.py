"""Web sites of one host on shared ports: by server name with TLS, whose certificates stay at the host, and by `Host` without. And names that nobody has."""

from cases import Scene
from harness import LOOPBACK, Failure
from ports import free_port
from servers import NGINX_STREAM, Authority, start_nginx
from tunnel import DOMAIN

ANSWER = 15
HOST = f"web.{DOMAIN}"
NOBODYS = f"nobody.{DOMAIN}"
PLAYER = "127.0.0.7"
PICTURE = bytes(range(256)) * 12_000
# What curl ends with when TLS fails before there is a certificate.
NO_TLS = 35

# The shop reads who comes before the TLS begins.
NGINX = f"""
server {{{{
    listen {LOOPBACK}:{{shop}} ssl http2 proxy_protocol;
    ssl_certificate {{shop_certificate}};
    ssl_certificate_key {{shop_key}};
    root {{root}};
    location = / {{{{ return 200 "shop $ssl_server_name $server_protocol $proxy_protocol_addr\\n"; }}}}
}}}}
server {{{{
    listen {LOOPBACK}:{{wiki}} ssl http2;
    ssl_certificate {{wiki_certificate}};
    ssl_certificate_key {{wiki_key}};
    location = / {{{{ return 200 "wiki $ssl_server_name $server_protocol\\n"; }}}}
}}}}
server {{{{
    listen {LOOPBACK}:{{plain}};
    location = / {{{{ return 200 "plain $http_host $server_protocol\\n"; }}}}
}}}}
"""
TUNNELS = """
[[tunnel]]
preset = "https"
name = "shop"
origin = {shop}
real_ip = "proxy-v2"

[[tunnel]]
preset = "https"
name = "wiki"
origin = {wiki}

[[tunnel]]
preset = "http"
name = "plain"
origin = {plain}
"""


def play(lab, relay):
    authority, root = Authority(lab), lab.subfolder("root")
    (root / "picture").write_bytes(PICTURE)
    # The first tunnel of a host that speaks TLS has the host's name too.
    shop, wiki = authority.vouch(f"shop.{HOST}", HOST), authority.vouch(f"wiki.{HOST}")
    ports = {name: free_port() for name in ("shop", "wiki", "plain")}
    start_nginx(lab, ports["plain"], NGINX.format(
        **ports, root=root, shop_certificate=shop[0], shop_key=shop[1], wiki_certificate=wiki[0], wiki_key=wiki[1],
    ))
    host = relay.host(lab, "web", TUNNELS.format(**ports))
    for tunnel in ports:
        host.public(tunnel)

    lab.stage = "by server name"
    tls, http = relay.shared["tls"], relay.shared["http"]
    verified = "--cacert", authority.certificate
    for name, answer in {
        f"shop.{HOST}": f"shop shop.{HOST} HTTP/2.0 {PLAYER}",
        HOST: f"shop {HOST} HTTP/2.0 {PLAYER}",
        f"wiki.{HOST}": f"wiki wiki.{HOST} HTTP/2.0",
    }.items():
        _expect(f"https://{name}/", _fetch(lab, "https", name, tls, *verified), answer)
    picture = lab.folder / "picture"
    _fetch(lab, "https", HOST, tls, *verified, "--output", picture, path="picture")
    if picture.read_bytes() != PICTURE:
        raise Failure(f"a picture of {len(PICTURE)} bytes arrived with {picture.stat().st_size}, or others")

    lab.stage = "by server names that nobody has"
    for options in (verified, ("--tls-max", "1.2", *verified)):
        curl = _curl(lab, "https", NOBODYS, tls, *options)
        if curl.wait_exit(ANSWER + 5) != NO_TLS or not any("unrecognized name" in line for line in curl.log):
            raise Failure(f"curl ended with {curl.returncode()} and {curl.log} instead of an alert")

    lab.stage = "by `Host`"
    for name in (f"plain.{HOST}", HOST):
        _expect(f"http://{name}/", _fetch(lab, "http", name, http), f"plain {name}:{http[1]} HTTP/1.1")
    unknown = _fetch(lab, "http", NOBODYS, http, "--write-out", "%{http_code}")
    _expect("a `Host` that nobody has", unknown, "There is no site of this name here.\n404")
    host.stop()


def _fetch(lab, scheme, name, address, *options, path=""):
    curl = _curl(lab, scheme, name, address, *options, path=path)
    if (code := curl.wait_exit(ANSWER + 5)) != 0:
        raise Failure(f"curl {scheme}://{name}/{path} ended with {code}: {' '.join(curl.log)}")
    return "\n".join(curl.stdout)


def _curl(lab, scheme, name, address, *options, path=""):
    """A player's curl that asks `address` for a site, as if DNS led there."""
    host, port = address
    return lab.start("curl", [
        "curl", "-sS", "--max-time", ANSWER, "--interface", PLAYER, "--resolve", f"{name}:{port}:{host}", *options, f"{scheme}://{name}:{port}/{path}",
    ])


def _expect(what, got, wanted):
    if got != wanted:
        raise Failure(f"{what} is answered with {got!r} instead of {wanted!r}")


CASES = [Scene("sites", needs=("nginx", NGINX_STREAM, "openssl", "curl"), play=play)]
