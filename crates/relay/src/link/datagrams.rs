//! What an agent sends as datagrams: packets of its UDP flows, and repairs of its sessions.

use std::sync::Arc;

use spawnpoint_proto::datagram::Header;
use spawnpoint_proto::repair::is_repair;

use super::Link;
use crate::context::Context;

/// Takes datagrams until the connection is gone; nothing here waits for anything else.
pub(super) async fn read(link: Arc<Link>, connection: quinn::Connection, context: Arc<Context>) {
    let epoch = link.sessions.epoch();
    while let Ok(mut datagram) = connection.read_datagram().await {
        if is_repair(&datagram) {
            if let Err(violation) = link.sessions.on_repair(epoch, datagram) {
                context.metrics.violation(violation.as_str());
            }
            continue;
        }
        let header = match Header::decode(&mut datagram) {
            Ok(header) => header,
            Err(violation) => {
                context.metrics.violation(violation.as_str());
                continue;
            }
        };
        // A late packet of a tunnel that was closed meanwhile belongs to nobody.
        if let Some(udp) = link.by_lane(header.flow.lane()).and_then(|tunnel| tunnel.udp.clone()) {
            udp.on_agent_datagram(header, datagram);
        }
    }
}
