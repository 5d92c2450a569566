//! The whole tunnel on loopback, beside direct and peers: `cargo bench --bench loopback`; `-- --help` lists loads and flags.
//!
//! ```sh
//! cargo bench -p spawnpoint-benches --bench loopback                                       # everything, about a quarter of an hour
//! cargo bench -p spawnpoint-benches --bench loopback -- --quick --load bulk --only spawnpoint,quinn
//! cargo bench -p spawnpoint-benches --bench loopback -- --markdown                         # with tables for a README
//! ```
//!
//! Exit code 1 when a byte was wrong anywhere or something of ours failed, 2 for wrong flags. What is measured and how: `src/lib.rs`.

use std::process::ExitCode;
use std::time::Instant;

use spawnpoint_benches::arguments::{Arguments, HELP};
use spawnpoint_benches::bare_quic::Role;
use spawnpoint_benches::binaries::Binaries;
use spawnpoint_benches::fault::Fault;
use spawnpoint_benches::{markdown, run, table};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let Some(role) = Role::parse(&words) {
        return role.play();
    }
    if cfg!(debug_assertions) {
        // `cargo test --benches` comes here: figures of an unoptimised build would only mislead.
        println!("the bench on loopback runs by `cargo bench`");
        return ExitCode::SUCCESS;
    }
    let arguments = match Arguments::parse(words.into_iter()) {
        Ok(arguments) if arguments.help => {
            println!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Ok(arguments) if arguments.loads.is_empty() => return ExitCode::SUCCESS,
        Ok(arguments) => arguments,
        Err(text) => {
            eprintln!("{text}");
            return ExitCode::from(2);
        }
    };
    raise_descriptors();
    match bench(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(fault) => {
            eprintln!("{fault}");
            ExitCode::FAILURE
        }
    }
}

fn bench(arguments: &Arguments) -> Result<bool, Fault> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let started = Instant::now();
    runtime.block_on(async {
        let binaries = Binaries::find().await?;
        let report = run::run(arguments, &binaries).await;
        let path = binaries.target().join("bench-loopback.json");
        print!("{}", table::render(&report));
        if arguments.markdown {
            print!("{}", markdown::render(&report));
        }
        std::fs::write(&path, format!("{:#}\n", report.to_json()))
            .map_err(|error| Fault::failed(&format!("writing {}", path.display()), error))?;
        println!("{} ({} s)", path.display(), started.elapsed().as_secs());
        Ok(report.is_good())
    })
}

/// Starts the bench anew with room for the descriptors of a thousand players, at both ends and in each process; the limit is inherited.
#[cfg(unix)]
fn raise_descriptors() {
    use std::os::unix::process::CommandExt as _;
    use std::process::Command;

    const DONE: &str = "SPAWNPOINT_BENCH_DESCRIPTORS";
    const SCRIPT: &str = r#"n=$(ulimit -n); [ "$n" = unlimited ] || [ "$n" -ge 8192 ] || ulimit -n 8192 || ulimit -n "$(ulimit -H -n)"; exec "$0" "$@""#;
    let (Ok(program), None) = (std::env::current_exe(), std::env::var_os(DONE)) else {
        return;
    };
    let mut shell = Command::new("sh");
    shell.env(DONE, "1").arg("-c").arg(SCRIPT).arg(program);
    // Returns only when there is no shell; the loads then find out whether there are enough.
    let _ = shell.args(std::env::args_os().skip(1)).exec();
}

#[cfg(not(unix))]
fn raise_descriptors() {}
