//! `spawnpoint demo`.

use clap::Args;
use spawnpoint_config::tunnel::Origin;
use spawnpoint_demo::Demo;

use super::Failure;
use crate::output::LogArguments;
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
    arguments.log.init_quiet().map_err(Failure::Usage)?;
    let mut stop = signals::Stop::install()?;
    let demo = Demo::start(arguments.server).await?;
    let pinged = demo.ping().await;
    match &pinged {
        Ok(report) => println!("{report}"),
        Err(_) => println!("The tunnel is open, but the ping failed."),
    }
    if !arguments.once && pinged.is_ok() {
        println!(
            "\nType this into the game (Multiplayer, Direct Connection), on this machine:  {}",
            demo.public()
        );
        println!("Ctrl-C ends the demo.");
        stop.requested().await;
    }
    demo.stop().await;
    pinged.map(drop).map_err(Failure::from)
}
