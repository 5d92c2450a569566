//! `spawnpoint demo`.

use clap::Args;
use spawnpoint_config::tunnel::Origin;
use spawnpoint_demo::Demo;

use super::Failure;
use crate::output::{LogArguments, say};
use crate::signals;

#[derive(Args)]
pub struct Arguments {
    /// Your own Minecraft server instead of the built-in one
    #[arg(value_name = "HOST:PORT")]
    server: Option<Origin>,
    /// End after the ping, with an exit code that tells whether it worked
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    log: LogArguments,
}

pub async fn run(arguments: Arguments) -> Result<(), Failure> {
    let _logs = arguments.log.init_quiet().map_err(Failure::Usage)?;
    let mut stop = signals::Stop::install()?;
    let demo = Demo::start(arguments.server).await?;
    let pinged = demo.ping().await;
    match &pinged {
        Ok(report) => say(report),
        Err(_) => say("The tunnel is open, but the ping failed."),
    }
    if !arguments.once && pinged.is_ok() {
        say(format_args!(
            "\nType this into the game (Multiplayer, Direct Connection), on this machine:  {}",
            demo.public()
        ));
        say("Ctrl-C ends the demo.");
        stop.requested().await;
    }
    demo.stop().await;
    pinged.map(drop).map_err(Failure::from)
}
