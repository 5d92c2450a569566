//! Telling the program that started this one how it is: systemd's `sd_notify`, or anything that speaks it.
//!
//! A supervisor that wants to know says where in `NOTIFY_SOCKET`; without it, and on systems without Unix sockets, nothing is told to nobody. What is told
//! is the caller's business: `READY=1`, `STATUS=...`, or `MAINPID=...` by a process whose successor goes on in its place. By default systemd listens to the
//! main process only, so the old process says the last while it still is that.

use std::ffi::OsString;
use std::io;

/// The supervisor could not be told.
#[derive(Debug, thiserror::Error)]
#[error("failed to tell the supervisor at {socket} (NOTIFY_SOCKET)", socket = socket.display())]
pub struct NotifyError {
    /// What the supervisor gave as its address.
    pub socket: OsString,
    /// Why.
    #[source]
    pub source: io::Error,
}

/// Tells the supervisor `state`: assignments, one a line. Does nothing when there is no supervisor who wants to know.
///
/// # Errors
/// [`NotifyError`], which names the socket.
pub fn notify(state: &str) -> Result<(), NotifyError> {
    match std::env::var_os("NOTIFY_SOCKET") {
        Some(socket) if !socket.is_empty() => {
            system::send(&socket, state).map_err(|source| NotifyError { socket, source })
        }
        _ => Ok(()),
    }
}

#[cfg(unix)]
mod system {
    use std::ffi::OsStr;
    use std::io;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};
    use std::time::Duration;

    /// A supervisor whose queue stays full for longer than this does not listen.
    const PATIENCE: Duration = Duration::from_secs(1);

    pub(super) fn send(socket: &OsStr, state: &str) -> io::Result<()> {
        let address = match socket.as_bytes() {
            [b'@', name @ ..] => abstract_address(name)?,
            [b'/', ..] => SocketAddr::from_pathname(socket)?,
            // systemd in a virtual machine may give `vsock:...`.
            _ => return Err(unsupported()),
        };
        let sender = UnixDatagram::unbound()?;
        sender.set_write_timeout(Some(PATIENCE))?;
        // A datagram goes whole or not at all.
        sender.send_to_addr(state.as_bytes(), &address)?;
        Ok(())
    }

    #[cfg(target_os = "linux")]
    fn abstract_address(name: &[u8]) -> io::Result<SocketAddr> {
        use std::os::linux::net::SocketAddrExt;
        SocketAddr::from_abstract_name(name)
    }

    #[cfg(not(target_os = "linux"))]
    fn abstract_address(_: &[u8]) -> io::Result<SocketAddr> {
        Err(unsupported())
    }

    fn unsupported() -> io::Error {
        io::Error::new(
            io::ErrorKind::Unsupported,
            "this kind of address is not supported: use a path",
        )
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_supervisor_at_a_path_is_told() {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("notify");
            let supervisor = UnixDatagram::bind(&path).unwrap();
            send(path.as_os_str(), "READY=1\nMAINPID=123").unwrap();
            assert_eq!(heard(&supervisor), "READY=1\nMAINPID=123");
        }

        #[test]
        #[cfg(target_os = "linux")]
        fn a_supervisor_with_an_abstract_name_is_told() {
            let name = format!("spawnpoint-test-{}", std::process::id());
            let supervisor = UnixDatagram::bind_addr(&abstract_address(name.as_bytes()).unwrap()).unwrap();
            send(format!("@{name}").as_ref(), "STATUS=draining").unwrap();
            assert_eq!(heard(&supervisor), "STATUS=draining");
        }

        #[test]
        fn a_supervisor_that_is_gone_is_an_error() {
            let directory = tempfile::tempdir().unwrap();
            let gone = send(directory.path().join("gone").as_os_str(), "READY=1").unwrap_err();
            assert_eq!(gone.kind(), io::ErrorKind::NotFound);
        }

        #[test]
        fn an_address_of_another_kind_is_refused() {
            for socket in ["vsock:2:1234", "notify"] {
                let refused = send(socket.as_ref(), "READY=1").unwrap_err();
                assert_eq!(refused.kind(), io::ErrorKind::Unsupported);
            }
        }

        #[test]
        #[cfg(target_os = "linux")]
        fn a_supervisor_that_does_not_listen_holds_nobody_up_for_long() {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("notify");
            let _deaf = UnixDatagram::bind(&path).unwrap();
            let error = (0..100_000).find_map(|_| send(path.as_os_str(), "READY=1").err());
            assert_eq!(error.unwrap().kind(), io::ErrorKind::WouldBlock);
        }

        fn heard(supervisor: &UnixDatagram) -> String {
            supervisor.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            let mut buffer = [0; 256];
            let length = supervisor.recv(&mut buffer).unwrap();
            String::from_utf8(buffer[..length].to_vec()).unwrap()
        }
    }
}

#[cfg(not(unix))]
mod system {
    use std::ffi::OsStr;
    use std::io;

    pub(super) fn send(_: &OsStr, _: &str) -> io::Result<()> {
        Ok(())
    }
}
