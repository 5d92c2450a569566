//! The tunnel over an impaired line, beside peers: `cargo bench --bench wan`, as root; `-- --help` lists the flags.
//!
//! ```sh
//! cargo bench -p spawnpoint-benches --bench wan                                            # the line, everybody
//! cargo bench -p spawnpoint-benches --bench wan -- --only direct,spawnpoint --cell rtt=40,loss=1 --load tcp,tcp-bulk --quick
//! cargo bench -p spawnpoint-benches --bench wan -- --only spawnpoint,spawnpoint-cubic --congestion cubic --load tcp-bulk
//! cargo bench -p spawnpoint-benches --bench wan -- --matrix --tcp both --markdown          # hours; without --tcp both, 45 minutes
//! ```
//!
//! Exit code 1 when a byte was wrong anywhere or something of ours failed, 2 for wrong flags. What is measured and how: `src/wan.rs`.

use std::process::ExitCode;

#[cfg(target_os = "linux")]
fn main() -> ExitCode {
    use spawnpoint_benches::wan::arguments::{Arguments, HELP};
    use spawnpoint_benches::wan::role::Role;

    let words: Vec<String> = std::env::args().skip(1).collect();
    if let Some(role) = Role::parse(&words) {
        return role.play();
    }
    if cfg!(debug_assertions) {
        // `cargo test --benches` comes here: figures of an unoptimised build would only mislead.
        println!("the bench of the line runs by `cargo bench`");
        return ExitCode::SUCCESS;
    }
    match Arguments::parse(words.into_iter()) {
        Ok(arguments) if arguments.help => {
            println!("{HELP}");
            ExitCode::SUCCESS
        }
        Ok(arguments) if arguments.is_unwanted => ExitCode::SUCCESS,
        Ok(arguments) => match linux::bench(&arguments) {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(fault) => {
                eprintln!("{fault}");
                ExitCode::FAILURE
            }
        },
        Err(text) => {
            eprintln!("{text}");
            ExitCode::from(2)
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn main() -> ExitCode {
    println!("the bench of the line needs Linux's network namespaces");
    ExitCode::SUCCESS
}

#[cfg(target_os = "linux")]
mod linux {
    use std::path::Path;
    use std::time::Instant;

    use spawnpoint_benches::binaries::Binaries;
    use spawnpoint_benches::fault::Fault;
    use spawnpoint_benches::wan::arguments::Arguments;
    use spawnpoint_benches::wan::report::Report;
    use spawnpoint_benches::wan::{markdown, plot, run, table};
    use tokio::signal::unix::{SignalKind, signal};

    /// Runs it all; whether the result holds.
    pub fn bench(arguments: &Arguments) -> Result<bool, Fault> {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let started = Instant::now();
        runtime.block_on(async {
            let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
            let binaries = Binaries::find().await?;
            let mut report = Report::new(arguments, &binaries);
            // What is dropped by a signal removes its processes and namespaces; the report stays.
            let is_whole = tokio::select! {
                // Those that a signal ends as well are not to be taken for its failures.
                biased;
                _ = interrupt.recv() => false,
                _ = terminate.recv() => false,
                done = run::run(arguments, &binaries, &mut report) => done.map(|()| true)?,
            };
            print!("{}", table::render(&report));
            if arguments.markdown {
                print!("{}", markdown::render(&report));
            }
            let target = binaries.target();
            write(&target.join("bench-wan.json"), &format!("{:#}\n", report.to_json()))?;
            write(&target.join("bench-wan.svg"), &plot::render(&report))?;
            println!(
                "({} s{})",
                started.elapsed().as_secs(),
                if is_whole { "" } else { ", broken off" }
            );
            Ok(is_whole && report.is_good())
        })
    }

    fn write(path: &Path, text: &str) -> Result<(), Fault> {
        std::fs::write(path, text).map_err(|error| Fault::failed(&format!("writing {}", path.display()), error))?;
        println!("{}", path.display());
        Ok(())
    }
}
