//! A subject on loopback, ready for players: its processes, and our origin behind it.

use std::time::Duration;

use crate::binaries::Binaries;
use crate::fault::Fault;
use crate::knock;
use crate::launch::Tunnel;
use crate::origin::Origin;
use crate::place::Place;
use crate::subject::Subject;

/// One try of the way from player to origin.
const PATIENCE: Duration = Duration::from_millis(200);

/// A subject at work. Everything ends when it is dropped.
#[derive(Debug)]
pub struct Setup {
    /// Its processes, and where players find them.
    pub tunnel: Tunnel,
    /// The game server.
    pub origin: Origin,
}

impl Setup {
    /// Starts `subject` and waits until players get through.
    ///
    /// # Errors
    /// [`Fault::Failed`] with the last words of its logs.
    pub async fn start(subject: Subject, binaries: &Binaries) -> Result<Self, Fault> {
        let place = Place::loopback();
        let origin = Origin::start(place.home.address).await?;
        let mut tunnel = Tunnel::launch(&place, subject, &[], origin.address, binaries).await?;
        let tcp = subject.has_streams().then_some(tunnel.tcp);
        let udp = subject.has_packets().then_some(tunnel.udp);
        match knock::until_open(tcp, udp, PATIENCE, || tunnel.check_alive()).await {
            Ok(()) => Ok(Self { tunnel, origin }),
            Err(fault) => Err(fault.with(&tunnel.story())),
        }
    }
}
