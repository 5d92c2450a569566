//! `spawnpoint invite`.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use spawnpoint_config::relay::parse_public_host;
use spawnpoint_core::grant::Grant;
use spawnpoint_proto::HostName;
use spawnpoint_relay::office::Office;

use super::Failure;
use super::host::GrantArguments;
use crate::output::print;
use crate::paths;

#[derive(Args)]
pub struct Arguments {
    /// A name for the host, such as the friend's
    name: HostName,
    /// The relay's data directory
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// The name or address by which the agent reaches the relay [default: what the relay said when it started]
    #[arg(long, value_name = "HOST", value_parser = parse_public_host)]
    public_host: Option<String>,
    #[command(flatten)]
    grant: Box<GrantArguments>,
}

pub fn run(arguments: Arguments) -> Result<(), Failure> {
    let data_dir = arguments
        .data_dir
        .map_or_else(paths::relay_data, Ok)
        .map_err(Failure::Usage)?;
    let grant = arguments
        .grant
        .into_change()
        .map_err(Failure::Usage)?
        .apply(Grant::default());
    let invite = Office::open(&data_dir)?.invite(&arguments.name, &grant, arguments.public_host.as_deref())?;
    if spawnpoint_net::is_local_name(&invite.host) {
        eprintln!(
            "note: the invite names {}, which only works on this machine; --public-host NAME changes it",
            invite.host
        );
    }
    print(&invite).with_context(|| {
        format!(
            "the invite could not be printed; `spawnpoint host rotate {}` makes another",
            arguments.name
        )
    })?;
    Ok(())
}
