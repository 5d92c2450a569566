//! What `spawnpoint agent INVITE TUNNEL...` leaves for the next start: a configuration file like any other, for its owner only.

use std::fmt::Write;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use spawnpoint_config::tunnel::Tunnel;
use spawnpoint_net::identity::{IdentityError, write_secret};
use spawnpoint_proto::Invite;

/// What the agent cannot remember.
#[derive(Debug, thiserror::Error)]
pub enum RememberError {
    /// The directory cannot be made.
    #[error("cannot make the state directory {}: name another with --state-dir DIR", path.display())]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another agent runs with it.
    #[error("an agent is already running with the state directory {}: stop it first, or name another directory with --state-dir DIR", .0.display())]
    InUse(PathBuf),
    /// The file cannot be written.
    #[error("cannot remember the invite: name another directory with --state-dir DIR")]
    Write(#[source] IdentityError),
}

/// Holds a state directory for one agent; it is free again when this is dropped or the process ends.
#[derive(Debug)]
pub struct StateLock {
    #[cfg_attr(not(unix), expect(dead_code, reason = "held, never read"))]
    file: fs::File,
}

#[cfg(unix)]
impl StateLock {
    /// Takes over the lock that another process holds by the same open file.
    pub fn adopt(descriptor: std::os::fd::OwnedFd) -> Self {
        Self {
            file: descriptor.into(),
        }
    }
}

#[cfg(unix)]
impl std::os::fd::AsFd for StateLock {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Takes `state_dir`, so that a second agent does not rewrite what a first one follows.
///
/// # Errors
/// [`RememberError::InUse`] or [`RememberError::Directory`].
pub fn lock(state_dir: &Path) -> Result<StateLock, RememberError> {
    let failed = |source| RememberError::Directory {
        path: state_dir.to_owned(),
        source,
    };
    make_private(state_dir).map_err(failed)?;
    let file = fs::File::create(state_dir.join("agent.lock")).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(StateLock { file }),
        Err(fs::TryLockError::WouldBlock) => Err(RememberError::InUse(state_dir.to_owned())),
        Err(fs::TryLockError::Error(error)) => Err(failed(error)),
    }
}

/// The file in `state_dir`.
pub fn path(state_dir: &Path) -> PathBuf {
    state_dir.join("agent.toml")
}

/// Writes the file. One with other content is kept beside it as `agent.toml.old`, since a person may have written into it.
///
/// # Errors
/// [`RememberError`].
pub fn remember(state_dir: &Path, invite: &Invite, tunnels: &[Tunnel]) -> Result<PathBuf, RememberError> {
    make_private(state_dir).map_err(|source| RememberError::Directory {
        path: state_dir.to_owned(),
        source,
    })?;
    let (path, text) = (path(state_dir), render(invite, tunnels));
    match fs::read_to_string(&path) {
        Ok(old) if old == text => return Ok(path),
        Ok(old) => write_secret(&state_dir.join("agent.toml.old"), old.as_bytes()).map_err(RememberError::Write)?,
        Err(_) => {}
    }
    write_secret(&path, text.as_bytes()).map_err(RememberError::Write)?;
    Ok(path)
}

fn render(invite: &Invite, tunnels: &[Tunnel]) -> String {
    let mut text = format!(
        "# Written by `spawnpoint agent INVITE TUNNEL...`, read by `spawnpoint agent`. Tunnels changed here are taken over while the agent runs.\n\
         # The invite is a secret: whoever has it can take this host's place.\ninvite = \"{invite}\"\n"
    );
    for tunnel in tunnels {
        let kind = match tunnel.preset {
            Some(preset) => format!("preset = \"{}\"", preset.word),
            None => format!("protocol = \"{}\"", tunnel.protocol),
        };
        let range = match tunnel.count {
            1 => String::new(),
            _ => format!("-{}", tunnel.last_port()),
        };
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "\n[[tunnel]]\nname = \"{}\"\n{kind}\norigin = \"{}{range}\"\n",
            tunnel.name, tunnel.origin
        );
        if let Some(port) = tunnel.public_port {
            let _ = writeln!(text, "public_port = {port}");
        }
        if tunnel.redundancy {
            text.push_str("redundancy = true\n");
        }
    }
    text
}

fn make_private(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    // On Windows the directory lies in the user's profile and inherits its permissions.
    builder.create(dir)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use spawnpoint_config::agent::AgentConfig;
    use spawnpoint_proto::{CertificateHash, Token, Trust};

    fn invite() -> Invite {
        let trust = Trust::Pin(CertificateHash([1; 32]));
        Invite {
            host: "relay.example".into(),
            port: 7843,
            trust,
            token: Token::new([2; 32]),
        }
    }

    fn tunnels(texts: &[&str]) -> Vec<Tunnel> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn what_is_remembered_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let tunnels = tunnels(&["minecraft", "web=tcp:[::1]:8080@25600", "voice=udp:desk.local:24454"]);
        let path = remember(&dir.path().join("state"), &invite(), &tunnels).unwrap();
        let config = AgentConfig::load(&path).unwrap();
        assert_eq!(config.tunnels, tunnels);
        assert_eq!(config.invite.unwrap().to_string(), invite().to_string());
    }

    #[test]
    fn what_a_person_wrote_is_kept_beside() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(path(dir.path()), "# mine\n").unwrap();
        remember(dir.path(), &invite(), &tunnels(&["minecraft"])).unwrap();
        assert_eq!(
            fs::read_to_string(dir.path().join("agent.toml.old")).unwrap(),
            "# mine\n"
        );
    }

    #[cfg(unix)]
    #[test]
    fn the_invite_is_for_its_owner_only() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = remember(&dir.path().join("state"), &invite(), &[]).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
    }
}
