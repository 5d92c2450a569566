"""Servers that several cases set up: nginx, haproxy, and the authority that vouches for their names."""

from pathlib import Path

from ports import wait_for_listener

START = 20
NGINX_STREAM = Path("/usr/lib/nginx/modules/ngx_stream_module.so")

NGINX_CONF = """
daemon off;
# The lab's folder is open to nobody else.
user root;
error_log stderr;
pid nginx.pid;
worker_processes 1;
load_module {module};
events {{ worker_connections 128; }}
http {{
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    {http}
}}
stream {{
    {stream}
}}
"""

HAPROXY_CFG = """
global
    log stderr format raw local0
defaults
    log global
    timeout connect 10s
    timeout client 30s
    timeout server 30s
{sections}
"""


def start_nginx(lab, port, http="", stream=""):
    """Starts nginx with the given `server` blocks, one of which listens on `port`."""
    folder = lab.subfolder("nginx")
    (folder / "nginx.conf").write_text(NGINX_CONF.format(module=NGINX_STREAM, http=http, stream=stream))
    server = lab.start("nginx", ["nginx", "-p", folder, "-c", "nginx.conf", "-e", "stderr"])
    wait_for_listener(server, port, START)
    return server


def start_haproxy(lab, name, port, sections):
    """Starts haproxy with `sections` of configuration, one of which listens on `port`."""
    config = lab.folder / f"{name}.cfg"
    config.write_text(HAPROXY_CFG.format(sections=sections))
    server = lab.start(name, ["haproxy", "-db", "-f", config])
    wait_for_listener(server, port, START)
    return server


class Authority:
    """A certificate authority that exists for as long as the lab."""

    def __init__(self, lab):
        self._lab = lab
        self._key, self.certificate = lab.folder / "authority.key", lab.folder / "authority.pem"
        self._make("/CN=throw-away authority", self._key, self.certificate)

    def vouch(self, *names):
        """Returns the files of a certificate for `names` and of its key."""
        certificate, key = (self._lab.folder / f"{names[0]}.{end}" for end in ("pem", "key"))
        whose = "subjectAltName=" + ",".join(f"DNS:{name}" for name in names)
        self._make(f"/CN={names[0]}", key, certificate, "-addext", whose, "-addext", "basicConstraints=critical,CA:FALSE", "-CA", self.certificate, "-CAkey", self._key)
        return certificate, key

    def _make(self, subject, key, certificate, *more):
        self._lab.run("openssl", [
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
            "-subj", subject, "-keyout", key, "-out", certificate, *more,
        ], START)
