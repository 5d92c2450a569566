//! Rounds: each load on each subject in turn, again and again.

use std::time::Duration;

use crate::arguments::Arguments;
use crate::binaries::Binaries;
use crate::fault::Fault;
use crate::figure::Figure;
use crate::load::{Load, Pace};
use crate::report::{Failure, Report};
use crate::setups::Setup;
use crate::subject::Subject;

/// Between two loads, for what is still on the way.
const PAUSE: Duration = Duration::from_millis(150);

/// Runs what was asked for.
pub async fn run(arguments: &Arguments, binaries: &Binaries) -> Report {
    let mut report = Report::new(arguments, binaries);
    for load in &arguments.loads {
        eprintln!("{} ...", load.name);
        let subjects = arguments.subjects.iter().copied();
        let subjects: Vec<Subject> = subjects
            .filter(|subject| binaries.has(*subject) && load.suits(*subject))
            .collect();
        if load.wants_new_processes() {
            for round in 0..arguments.pace.rounds {
                measure(
                    load,
                    &subjects,
                    round..round + 1,
                    &arguments.pace,
                    binaries,
                    &mut report,
                )
                .await;
            }
        } else {
            let rounds = 0..arguments.pace.rounds;
            measure(load, &subjects, rounds, &arguments.pace, binaries, &mut report).await;
        }
    }
    report
}

/// Starts all subjects and puts `load` on each in turn. A subject that fails is out until the next load.
async fn measure(
    load: &Load,
    subjects: &[Subject],
    rounds: std::ops::Range<u32>,
    pace: &Pace,
    binaries: &Binaries,
    report: &mut Report,
) {
    let mut setups = Vec::new();
    for subject in subjects {
        match Setup::start(*subject, binaries).await {
            Ok(setup) => setups.push(setup),
            Err(fault) => report.failed(Failure::new(load, *subject, rounds.start, fault)),
        }
    }
    for round in rounds {
        let mut standing = Vec::new();
        for setup in setups {
            match once(load, &setup, pace).await {
                Ok(figures) => {
                    report.add(load, setup.tunnel.subject, &figures);
                    standing.push(setup);
                }
                Err(fault) => {
                    let fault = fault.with(&setup.tunnel.story());
                    report.failed(Failure::new(load, setup.tunnel.subject, round, fault));
                }
            }
        }
        setups = standing;
    }
}

async fn once(load: &Load, setup: &Setup, pace: &Pace) -> Result<Vec<Figure>, Fault> {
    let figures = load.run(setup, pace).await;
    tokio::time::sleep(PAUSE).await;
    let figures = match setup.origin.take_fault() {
        // What the origin saw is nearer to the cause than what became of it at the player.
        Some(fault) => return Err(fault),
        None => figures?,
    };
    let confirmed = setup.origin.confirmed().await;
    confirmed.map_err(|fault| setup.origin.take_fault().unwrap_or(fault))?;
    Ok(figures)
}
