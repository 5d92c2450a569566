//! Sockets, QUIC carriers and the tasks that move bytes.
//!
//! This is where the tunnel touches the machine: certificates and TLS settings, QUIC endpoints, how fast they send, dialling a relay by name, the control stream's frames,
//! sessions, whose pumps go on from one carrier to the next and wait where a rate says so, batches of UDP packets, and the scope in which every task lives; also what a process owes to
//! the machine around it: its sockets to a successor, answers to its owner, its state to a supervisor, an eye on its own addresses. It knows the bytes of
//! `spawnpoint-proto` and the rules of `spawnpoint-core`, but no host, no tunnel and no route: relay and agent compose those.

mod burst;
mod carrier;
mod clock;
mod congestion;
mod control;
mod dial;
mod endpoint;
#[cfg(unix)]
mod handover;
pub mod identity;
mod interfaces;
mod listen;
#[cfg(unix)]
mod local;
mod machine;
mod mtu;
mod outbox;
mod probe;
mod pulse;
mod random;
mod repair;
mod scope;
mod session;
mod shape;
mod socket;
mod stream;
#[cfg(unix)]
mod succession;
mod supervisor;
pub mod tls;
mod udp;

pub use burst::{Burst, Packets, receive_datagrams};
pub use carrier::PlayerStream;
pub use clock::{Clock, SleepWatch, unix_now};
pub use congestion::{PathModel, hint_rate};
pub use control::{ControlError, ControlReader, ControlWriter};
pub use dial::{DialError, Dialed, dial, move_socket};
pub use endpoint::{Acceptor, FIRST_PLAYERS, RelayEndpoint, RelayKeys};
#[cfg(unix)]
pub use handover::{Channel, ChannelError, is_between, is_successor, pass_on, spawn_successor};
pub use interfaces::{AddressWatch, source_towards};
pub use listen::{BindError, bind_tcp, bind_udp, canonical, is_local_name};
#[cfg(unix)]
pub use local::{LocalError, LocalReply, LocalRequest, LocalServer, ask};
pub use machine::{memory_in_use, memory_of_machine, open_files_limit};
pub use outbox::DatagramOutbox;
pub use probe::wait_for_answer;
pub use pulse::{Pulse, Silence};
pub use random::{random_bytes, random_unit};
pub use scope::TaskScope;
pub use session::{Ends, Halves, Meter, Opening, Session, SessionEnd, Sessions};
pub use shape::{Shaper, Toll, User};
pub use socket::{LocalSocket, abort};
pub use stream::{StreamError, read_header};
#[cfg(unix)]
pub use succession::{Descriptors, Predecessor, Sockets, SuccessionError, Successor};
pub use supervisor::{NotifyError, notify};
pub use udp::{PacketReader, PacketSocket, Segmenter, Sent};

/// What TLS exports for a connection: the same at both ends, and on no other connection.
///
/// # Errors
/// When the handshake is not complete.
pub fn binding(connection: &quinn::Connection) -> std::io::Result<[u8; 32]> {
    let mut binding = [0; 32];
    connection
        .export_keying_material(&mut binding, b"EXPORTER-spawnpoint-token", b"")
        .map_err(|_| std::io::Error::other("the connection has no keys to export"))?;
    Ok(binding)
}

/// A code as QUIC carries it.
pub fn var(number: u32) -> quinn::VarInt {
    quinn::VarInt::from_u32(number)
}
