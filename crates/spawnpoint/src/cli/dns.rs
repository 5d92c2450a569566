//! `spawnpoint relay dns`.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::Args;
use spawnpoint_config::relay::RelayConfig;
use spawnpoint_relay::office::Office;
use spawnpoint_relay::zone;

use super::Failure;
use crate::output::{print, say};
use crate::paths;

/// A resolver that has not answered by then will not.
const LOOKUP_DEADLINE: Duration = Duration::from_secs(10);

#[derive(Args)]
pub struct Arguments {
    /// The relay's configuration, with its `domain`
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Its data directory, if the configuration does not say
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Only print the records
    #[arg(long)]
    no_check: bool,
}

pub async fn run(arguments: Arguments) -> Result<(), Failure> {
    let config = RelayConfig::load(&arguments.config)?;
    let Some(domain) = &config.domain else {
        let file = arguments.config.display();
        return Err(Failure::Usage(anyhow!(
            "{file} has no `domain`, so no names: add for example domain = \"play.example.org\""
        )));
    };
    let data_dir = arguments.data_dir.or_else(|| config.data_dir.clone());
    let data_dir = data_dir.map_or_else(paths::relay_data, Ok).map_err(Failure::Usage)?;
    let office = Office::open(&data_dir)?;
    let public_host = match &config.public_host {
        Some(host) => host.clone(),
        None => office.public_host()?,
    };
    let addresses = resolve(&public_host)
        .await
        .with_context(|| format!("the relay's own name {public_host} has no address"))?;
    let entries = office.entries()?;
    for record in zone::records(&config, domain, &addresses, &entries) {
        print(record)?;
    }
    if arguments.no_check {
        return Ok(());
    }
    let mut wrong = 0;
    for name in zone::names_to_check(domain, &entries) {
        let found = resolve(&name).await.unwrap_or_default();
        let finding = zone::compare(&name, &found, &addresses);
        if !finding.is_right() {
            wrong += 1;
            say(format_args!("; {name}: {}", describe(&finding, &found)));
        }
    }
    match wrong {
        0 => say("; looked up: every name leads here"),
        _ => {
            return Err(anyhow!(
                "{wrong} names do not lead here yet: add the records above, and give resolvers an hour"
            )
            .into());
        }
    }
    Ok(())
}

fn describe(finding: &zone::Finding, found: &[IpAddr]) -> String {
    let join = |all: &[IpAddr]| all.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    match (found.is_empty(), finding.wrong.is_empty()) {
        (true, _) => "has no address".to_owned(),
        (false, true) => format!("lacks {}", join(&finding.missing)),
        (false, false) => format!("leads to {}", join(&finding.wrong)),
    }
}

async fn resolve(name: &str) -> anyhow::Result<Vec<IpAddr>> {
    let lookup = tokio::net::lookup_host((name, 0));
    let found = tokio::time::timeout(LOOKUP_DEADLINE, lookup)
        .await
        .context("no answer from the resolver")??;
    let mut addresses: Vec<IpAddr> = found.map(|address| address.ip()).collect();
    addresses.sort();
    addresses.dedup();
    Ok(addresses)
}
