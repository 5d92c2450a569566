//! The proof that players outlive what happens between them and the game server.
//!
//! Real relay and agent, 100 TCP players at 20 Hz, 4 downloads and 20 UDP flows, every byte checked on both sides; then the NAT rebinds, the agent moves,
//! the path goes dark for up to 25 s, relay and agent are upgraded in place, the relay is killed. The full soak is
//!
//! ```sh
//! cargo run --release -p spawnpoint-tests --bin survive -- --soak 600
//! ```
//!
//! It takes the binary beside it (`cargo build --release -p spawnpoint` builds that). As root, with iproute2, nftables and conntrack, everything runs in
//! network namespaces with a real NAT between; otherwise on loopback over a path that misbehaves. `--help` has the flags; `spawnpoint_tests::survive`
//! tells how it is made.

#[cfg(unix)]
mod show {
    use std::process::ExitCode;

    use spawnpoint_tests::survive::arguments::Arguments;
    use spawnpoint_tests::survive::fault::Fault;
    use spawnpoint_tests::survive::role;
    use spawnpoint_tests::survive::show::Show;
    use spawnpoint_tests::survive::table::{Row, Table};
    use tokio::signal::unix::{SignalKind, signal};

    pub async fn run() -> ExitCode {
        if std::env::args().nth(1).as_deref() == Some(role::WORD) {
            role::run().await;
            return ExitCode::SUCCESS;
        }
        let arguments = match Arguments::parse(std::env::args().skip(1)) {
            Ok(arguments) if arguments.help => {
                println!("{}", Arguments::help());
                return ExitCode::SUCCESS;
            }
            Ok(arguments) => arguments,
            Err(text) => {
                eprintln!("survive: {text}; see --help");
                return ExitCode::from(2);
            }
        };
        // Whatever ends the show, dropping it ends its processes and removes its namespaces.
        let ended = tokio::select! {
            biased; // a wish to end is heard first
            () = stopped() => Err(Fault("stopped".to_owned())),
            rows = play(arguments) => rows,
        };
        match ended {
            Ok(rows) if rows.iter().all(Row::is_passed) => ExitCode::SUCCESS,
            Ok(_) => ExitCode::FAILURE,
            Err(fault) => {
                eprintln!("survive: {fault}");
                ExitCode::from(2)
            }
        }
    }

    async fn play(arguments: Arguments) -> Result<Vec<Row>, Fault> {
        let fail = |error| Fault::new("a directory for logs", error);
        let temporary = tempfile::tempdir().map_err(fail)?;
        let directory = arguments.keep.clone().unwrap_or_else(|| temporary.path().to_owned());
        std::fs::create_dir_all(&directory).map_err(fail)?;
        let scenarios = arguments.scenarios.clone();
        // In namespaces, everybody's working directory is the same; a relative one would still be another's after an upgrade.
        let directory = directory.canonicalize().map_err(fail)?;
        let show = Show::new(arguments, directory)?;
        println!("over {}", show.place());
        let mut rows = Vec::new();
        for scenario in scenarios {
            let row = show.play(scenario).await;
            let verdict = if row.is_passed() { "ok" } else { "FAILED" };
            println!("{verdict} {}", row.name);
            row.problems.iter().for_each(|problem| println!("    {problem}"));
            row.notes.iter().for_each(|note| println!("    ({note})"));
            rows.push(row);
        }
        println!("\n{}", Table(&rows));
        Ok(rows)
    }

    async fn stopped() {
        let [interrupt, terminate] = [SignalKind::interrupt(), SignalKind::terminate()].map(signal);
        let (Ok(mut interrupt), Ok(mut terminate)) = (interrupt, terminate) else {
            // Without them, the signal ends the process as it always did.
            return std::future::pending().await;
        };
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    }
}

#[cfg(unix)]
#[tokio::main(flavor = "current_thread")]
async fn main() -> std::process::ExitCode {
    show::run().await
}

#[cfg(not(unix))]
fn main() -> std::process::ExitCode {
    eprintln!("survive: processes are replaced and found the Unix way; there is no other yet");
    std::process::ExitCode::from(2)
}
