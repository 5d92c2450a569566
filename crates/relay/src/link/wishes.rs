//! What a tunnel asks for, as far as it may have it: names, and a port that lies where it must.
//!
//! Nothing is reserved or opened here; [`super::opening`] does that with what comes out. Every refusal says why in a sentence.

use std::collections::HashSet;

use spawnpoint_core::access::{Lists, parse_prefix};
use spawnpoint_core::hostname::Pattern;
use spawnpoint_core::route::TunnelSpec;
use spawnpoint_ops::describe;
use spawnpoint_proto::control::{TunnelReply, TunnelRequest};
use spawnpoint_proto::{Dialect, RefusalCode};
use spawnpoint_store::ClaimError;

use super::LinkTask;
use crate::list::is_listed;
use crate::names;
use crate::registry::shared_ports;

/// What a tunnel gets if nothing is in the way.
pub(super) struct Wishes {
    /// The request with the port that it means.
    pub request: TunnelRequest,
    /// The host's own names that it must have.
    pub names: Vec<Pattern>,
    /// Ports of its protocol that are nobody's own.
    pub shared: HashSet<u16>,
}

impl LinkTask {
    /// What `asked` means here.
    ///
    /// # Errors
    /// Why it cannot be.
    pub(super) async fn settle(&self, asked: &TunnelRequest) -> Result<Wishes, (RefusalCode, String)> {
        let config = self.context.config();
        let names = self
            .wanted_names(asked)
            .map_err(|text| (RefusalCode::NameNotGranted, text))?;
        lists_of(asked).map_err(|text| (RefusalCode::Malformed, text))?;
        let shared: HashSet<u16> = shared_ports(&config)
            .filter(|((protocol, _), _)| *protocol == asked.protocol)
            .map(|((_, port), _)| port)
            .collect();
        let mut request = asked.clone();
        if let Some(beside) = &asked.beside {
            let leader = self.registry.port_of(self.link.host, &beside.tunnel).await;
            let Some(leader) = leader else {
                let text = format!("its port lies beside that of `{}`, which is not open", beside.tunnel);
                return Err((RefusalCode::PortBusy, text));
            };
            let port = u16::try_from(i32::from(leader).saturating_add(beside.offset)).ok();
            let Some(port) = port.filter(|&port| port > 0) else {
                let text = format!("there is no port beside {leader}, the one of `{}`", beside.tunnel);
                return Err((RefusalCode::PortTaken, text));
            };
            request.public_port = Some(port);
        }
        // A shared port is not one tunnel's; whoever asks for it in its dialect has it by name.
        if let Some(port) = request.public_port.filter(|port| shared.contains(port)) {
            if config.shared.dialect_at(request.protocol, port) != dialect_of(&request) {
                let text = format!("public port {port} is shared by many hosts: ask for another, or for none");
                return Err((RefusalCode::PortTaken, text));
            }
            request.public_port = None;
        }
        Ok(Wishes { request, names, shared })
    }

    /// The host's own names that a tunnel wants.
    ///
    /// # Errors
    /// Why it may not have them.
    fn wanted_names(&self, request: &TunnelRequest) -> Result<Vec<Pattern>, String> {
        let mut wanted = Vec::new();
        for text in request.names.iter().flatten() {
            let name = text.parse::<Pattern>().map_err(|error| error.to_string())?;
            if !self.host.grant.allows_name(&name) {
                return Err(format!(
                    "the grant of host `{}` does not allow the name {name}: ask the operator for it, with the name's address pointing at this relay",
                    self.host.name
                ));
            }
            if let Some(domain) = &self.context.config().domain
                && !self.host.grant.allows_name_within(&name, domain)
                && names::of_host(&self.context.config(), &self.host.name)
                    .is_none_or(|own| !name.name().is_within(&own))
            {
                return Err(format!(
                    "{name} lies under this relay's own {domain}, where each host has its own name: the operator can grant it as such"
                ));
            }
            wanted.push(name);
        }
        if !wanted.is_empty() && (self.context.config().domain.is_none() || dialect_of(request).is_none()) {
            return Err("this relay has no shared port for such a tunnel, and so no names".to_owned());
        }
        Ok(wanted)
    }

    /// Gives a tunnel that has a port its names.
    pub(super) async fn claim(&self, request: &TunnelRequest, wanted: &[Pattern]) -> Result<Vec<Pattern>, ClaimError> {
        let offered = names::offered(&self.context.config(), &self.host.name, &request.name);
        let (hosts, tunnel) = (&self.context.hosts, (request.name.clone(), request.protocol));
        hosts
            .claim(self.host.id, tunnel, dialect_of(request), wanted.to_vec(), offered)
            .await
    }

    pub(super) fn refuse_name(&self, request: &TunnelRequest, error: &ClaimError) -> TunnelReply {
        match error {
            ClaimError::Taken { .. } => self.refuse(request, RefusalCode::NameTaken, &error.to_string()),
            _ => {
                tracing::error!(error = %describe(error), "a name could not be claimed");
                let text = "the relay could not read or write its directory";
                self.refuse(request, RefusalCode::Internal, text)
            }
        }
    }

    /// The best that players can type.
    pub(super) fn address(&self, request: &TunnelRequest, names: &[Pattern], port: u16) -> Option<String> {
        names::address(
            &self.context.config(),
            &self.host.name,
            dialect_of(request),
            names,
            port,
        )
    }
}

/// From where players may come to a tunnel, as it asks.
///
/// # Errors
/// What makes no sense.
pub(super) fn lists_of(request: &TunnelRequest) -> Result<Lists, String> {
    let limits = request.limits.as_ref();
    let read = |list: Option<&Vec<String>>| -> Result<Vec<_>, String> {
        list.into_iter().flatten().map(|text| parse_prefix(text)).collect()
    };
    Ok(Lists {
        allow: read(limits.and_then(|limits| limits.allow.as_ref()))?,
        deny: read(limits.and_then(|limits| limits.deny.as_ref()))?,
    })
}

/// What players of a tunnel speak, as far as this build knows it.
pub(super) fn dialect_of(request: &TunnelRequest) -> Option<Dialect> {
    let dialect = Dialect::from_word(request.speaks.as_deref()?)?;
    (dialect.protocol() == request.protocol).then_some(dialect)
}

/// A tunnel as the book has it.
pub(super) fn spec(request: &TunnelRequest, port: u16, names: Vec<Pattern>) -> TunnelSpec {
    TunnelSpec {
        name: request.name.clone(),
        protocol: request.protocol,
        port,
        game: request.game.clone(),
        dialect: dialect_of(request),
        names,
        is_lasting: is_listed(request.game.as_deref()),
    }
}
