//! `spawnpoint presets`.

use clap::Args;
use spawnpoint_config::preset::{PRESETS, Preset, PresetPort};

use super::Failure;
use crate::output::print;

#[derive(Args)]
pub struct Arguments {
    /// Show one preset in full
    name: Option<String>,
}

pub fn run(arguments: Arguments) -> Result<(), Failure> {
    let ports = |ports: &[PresetPort]| ports.iter().map(port).collect::<Vec<_>>().join(", ");
    let Some(name) = arguments.name else {
        for preset in PRESETS {
            print(format_args!(
                "{:<16} {:<54} {}",
                preset.word,
                preset.title,
                ports(preset.ports)
            ))?;
        }
        return Ok(());
    };
    let Some(preset) = Preset::find(&name) else {
        return Err(Failure::Usage(anyhow::anyhow!(
            "there is no preset `{name}`: `spawnpoint presets` lists them"
        )));
    };
    print(format_args!("{}: {}", preset.word, preset.title))?;
    print(format_args!("ports      {}", ports(preset.ports)))?;
    if let Some(dialect) = preset.first().dialect {
        print(format_args!("by name    on the relay's shared port for {dialect}"))?;
    }
    print(format_args!("real_ip    {}", preset.real_ip.as_str()))?;
    print(format_args!("try it     {}", preset.test))?;
    Ok(())
}

fn port(port: &PresetPort) -> String {
    match port.count {
        1 => format!("{}/{}", port.port, port.protocol),
        count => format!("{}-{}/{}", port.port, port.port + count - 1, port.protocol),
    }
}
