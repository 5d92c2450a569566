#![allow(clippy::unwrap_used)]

mod file;
mod hosts;
mod reservations;

use spawnpoint_proto::Token;

use super::*;

const NOW: UnixTime = UnixTime(1_800_000_000);

fn open() -> (tempfile::TempDir, SqliteDirectory) {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteDirectory::open(dir.path()).unwrap();
    (dir, store)
}

fn host(store: &SqliteDirectory, text: &str, token: u8) -> HostId {
    store
        .create_host(&name(text), &hash(token), &Grant::default(), NOW)
        .unwrap()
}

fn reserve(store: &SqliteDirectory, host: HostId, tunnel: &str) -> Result<u16, ReserveError> {
    ask(store, host, tunnel, Protocol::Tcp, None, None, "100-103", &[])
}

fn want(store: &SqliteDirectory, host: HostId, tunnel: &str, port: u16) -> Result<u16, ReserveError> {
    ask(store, host, tunnel, Protocol::Tcp, Some(port), None, "100-103", &[])
}

#[expect(clippy::too_many_arguments, reason = "mirrors `Directory::reserve`")]
fn ask(
    store: &SqliteDirectory,
    host: HostId,
    tunnel: &str,
    protocol: Protocol,
    wanted: Option<u16>,
    preferred: Option<u16>,
    allowed: &str,
    busy: &[u16],
) -> Result<u16, ReserveError> {
    store.reserve(
        host,
        &tunnel.parse().unwrap(),
        protocol,
        wanted,
        preferred,
        &ports(allowed),
        &|port| busy.contains(&port),
        &[],
    )
}

fn name(text: &str) -> HostName {
    text.parse().unwrap()
}

fn ports(text: &str) -> PortSet {
    text.parse().unwrap()
}

/// The host that this token lets in, revoked or not.
fn by_token(store: &SqliteDirectory, token: &SecretHash) -> Option<Host> {
    let mut hosts = store.hosts_by_token(token.id()).unwrap().into_iter();
    hosts.find(|host| host.token == *token)
}

fn hash(token: u8) -> SecretHash {
    SecretHash::of_token(&Token::new([token; 32]))
}
