"""Mail to a server behind the tunnel: Postfix takes it over STARTTLS, swaks sends it with and without a password, and the Received line names the true client.

A mail server that took everybody for its own machine would send anybody's mail: here it trusts no address, so only a password opens it.
"""

import re
import shutil
from pathlib import Path

from cases import Scene
from harness import LOOPBACK, Failure
from ports import free_port, wait_for_listener
from servers import Authority
from tunnel import PROXY

MASTER = Path("/usr/lib/postfix/sbin/master")
START = 20
SEND = 30
NOTICE = 15
NAME, DOMAIN = "mail.home.test", "home.test"
INBOX, STRANGER = f"alice@{DOMAIN}", "carol@elsewhere.test"
USER, PASSWORD = "alice", "throw-away"
CLIENT, FAR_CLIENT = "127.0.0.7", "203.0.113.9"
# What swaks ends with when the server does not take a recipient, or a password.
NO_RECIPIENT, NO_LOGIN = 24, 28
NOBODY = 65534

MAIN_CF = f"""
compatibility_level = 3.6
queue_directory = {{folder}}/queue
data_directory = {{folder}}/data
maillog_file = /dev/stdout
myhostname = {NAME}
mydestination =
mynetworks =
inet_protocols = ipv4
disable_dns_lookups = yes
smtpd_peername_lookup = no
alias_maps =
alias_database =
local_recipient_maps =
virtual_mailbox_domains = {DOMAIN}
virtual_mailbox_base = {{folder}}/mail
virtual_mailbox_maps = static:inbox/
virtual_uid_maps = static:{NOBODY}
virtual_gid_maps = static:{NOBODY}
virtual_minimum_uid = 1
default_transport = discard
smtpd_upstream_proxy_protocol = haproxy
smtpd_tls_cert_file = {{certificate}}
smtpd_tls_key_file = {{key}}
smtpd_tls_security_level = may
smtpd_tls_auth_only = yes
smtpd_tls_received_header = yes
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = dovecot
smtpd_sasl_path = {{folder}}/auth
smtpd_sasl_authenticated_header = yes
smtpd_relay_restrictions = permit_sasl_authenticated, reject_unauth_destination
"""
MASTER_CF = f"""
{LOOPBACK}:{{port}} inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
proxymap unix - - n - - proxymap
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
postlog unix-dgram n - n - 1 postlogd
"""
# It only judges passwords.
DOVECOT_CONF = f"""
base_dir = {{folder}}/dovecot
state_dir = {{folder}}/dovecot-state
protocols =
listen = {LOOPBACK}
ssl = no
log_path = /dev/stderr
default_internal_user = nobody
default_login_user = nobody
default_internal_group = nogroup
auth_mechanisms = plain
passdb {{{{
  driver = static
  args = user={USER} password={PASSWORD}
}}}}
userdb {{{{
  driver = static
  args = uid={NOBODY} gid={NOBODY} home=/nonexistent
}}}}
service auth {{{{
  unix_listener {{folder}}/auth {{{{
    mode = 0666
  }}}}
}}}}
service stats {{{{
  chroot =
}}}}
"""
TUNNEL = """
[[tunnel]]
name = "submission"
protocol = "tcp"
origin = {}
real_ip = "proxy-v2"
"""


def play(lab, relay):
    authority = Authority(lab)
    port = free_port()
    _start_dovecot(lab)
    postfix = _start_postfix(lab, port, *authority.vouch(NAME))

    def send(address, recipient, *options, source=CLIENT):
        host, port = address
        swaks = lab.start("swaks", [
            "swaks", "--server", host, "--port", port, "--local-interface", source, "--helo", "client.test", "--from", "bob@away.test", "--to", recipient,
            "--tls", "--tls-verify", "--tls-ca-path", authority.certificate, "--tls-sni", NAME, "--timeout", SEND, *options,
        ])
        return swaks.wait_exit(2 * SEND), swaks

    def deliver(address, *options, source=CLIENT):
        """Sends a mail and returns its header once it is in the inbox."""
        inbox = lab.folder / "mail" / "inbox" / "new"
        known = set(inbox.glob("*"))
        postfix.forget()
        code, swaks = send(address, INBOX, *options, source=source)
        if code != 0:
            raise Failure(f"swaks ended with {code}: {_last_words(swaks)}")
        postfix.wait_line(rf"to=<{INBOX}>.*status=sent", NOTICE)
        (new,) = set(inbox.glob("*")) - known
        return re.sub(r"\n\s+", " ", new.read_text().split("\n\n")[0])

    lab.stage = "directly"
    _expect_client(deliver((LOOPBACK, port), *_proxied(), source=LOOPBACK), FAR_CLIENT)

    host = relay.host(lab, "post", TUNNEL.format(port))
    public = host.public("submission")
    lab.stage = "through the tunnel"
    _expect_client(deliver(public), CLIENT)
    lab.stage = "through a proxy before the relay"
    _expect_client(deliver(public, *_proxied(), source=PROXY), FAR_CLIENT)
    lab.stage = "with a password"
    login = "--auth", "PLAIN", "--auth-user", USER, "--auth-password"
    header = deliver(public, *login, PASSWORD)
    _expect_client(header, CLIENT)
    if f"(Authenticated sender: {USER})" not in header:
        raise Failure(f"there is no word of a password in {header}")
    lab.stage = "to somebody elsewhere"
    for wanted, options in ((0, (*login, PASSWORD)), (NO_RECIPIENT, ()), (NO_LOGIN, (*login, "wrong"))):
        code, swaks = send(public, STRANGER, *options)
        if code != wanted:
            raise Failure(f"swaks ended with {code} instead of {wanted}: {_last_words(swaks)}")
    postfix.wait_line(rf"client=unknown\[{CLIENT}\], sasl_method=PLAIN, sasl_username={USER}", NOTICE)
    host.stop()


def _start_postfix(lab, port, certificate, key):
    # Its daemons are several users.
    lab.folder.chmod(0o711)
    folder = lab.subfolder("postfix")
    lab.subfolder("queue")
    shutil.chown(lab.subfolder("data"), "postfix")
    shutil.chown(lab.subfolder("mail"), NOBODY, NOBODY)
    (folder / "main.cf").write_text(MAIN_CF.format(folder=lab.folder, certificate=certificate, key=key))
    (folder / "master.cf").write_text(MASTER_CF.format(port=port))
    lab.run("postfix check", ["postfix", "-c", folder, "check"], START)
    # Started by `postfix start-fg` it would leave the process group that the lab kills.
    server = lab.start("postfix", [MASTER, "-c", folder, "-s"])
    wait_for_listener(server, port, START)
    return server


def _start_dovecot(lab):
    config = lab.folder / "dovecot.conf"
    config.write_text(DOVECOT_CONF.format(folder=lab.folder))
    server = lab.start("dovecot", ["dovecot", "-F", "-c", config])
    server.wait_line("starting up", START)


def _proxied():
    """The options with which swaks speaks as a proxy that a far client has come to."""
    return (
        "--proxy-version", 2, "--proxy-family", "AF_INET", "--proxy-source", FAR_CLIENT, "--proxy-source-port", 4711,
        "--proxy-dest", LOOPBACK, "--proxy-dest-port", 25,
    )


def _expect_client(header, client):
    received = re.search(r"^Received: from client\.test \(unknown \[([^]]*)\]\) \(using TLSv1\.3 .*$", header, re.MULTILINE)
    if not received or received.group(1) != client:
        raise Failure(f"no mail of {client} over TLS: {header}")


def _last_words(swaks):
    return " / ".join(line for line in swaks.log if line.startswith("***") or line.startswith("<*"))


NEEDS = ("postfix", MASTER, "dovecot", "swaks", "openssl")
CASES = [Scene("mail", needs=NEEDS, play=play, needs_root=True)]
