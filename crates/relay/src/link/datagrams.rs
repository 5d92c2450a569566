//! What an agent sends as datagrams: packets of its UDP flows, and repairs of its sessions.

use std::sync::Arc;

use bytes::Bytes;
use spawnpoint_net::{Burst, receive_datagrams};
use spawnpoint_proto::Violation;
use spawnpoint_proto::datagram::Header;
use spawnpoint_proto::repair::is_repair;

use super::Link;
use crate::context::Context;
use crate::udp::Addressee;

/// Takes datagrams until the connection is gone; nothing here waits for anything else.
pub(super) async fn read(link: Arc<Link>, connection: quinn::Connection, context: Arc<Context>) {
    let epoch = link.sessions.epoch();
    let mut burst = Burst::default();
    while receive_datagrams(&connection, |datagram| {
        if let Err(violation) = take(&link, epoch, datagram, &mut burst) {
            context.metrics.violation(violation.as_str());
        }
    })
    .await
    .is_ok()
    {
        burst.send(|addressee, packets| addressee.send(packets));
    }
}

fn take(link: &Link, epoch: u64, mut datagram: Bytes, burst: &mut Burst<Addressee>) -> Result<(), Violation> {
    if is_repair(&datagram) {
        return link.sessions.on_repair(epoch, datagram);
    }
    let header = Header::decode(&mut datagram)?;
    // A late packet of a tunnel that was closed meanwhile belongs to nobody.
    if let Some(udp) = link.by_lane(header.flow.lane()).and_then(|tunnel| tunnel.udp.clone()) {
        udp.on_agent_datagram(header, datagram, burst);
    }
    Ok(())
}
