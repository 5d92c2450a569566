//! Plays scenarios and judges them.

use std::path::PathBuf;
use std::time::Duration;

use tokio::time::Instant;

use super::accident::{Accident, Felt};
use super::arguments::{Arguments, Namespaces};
use super::fault::Fault;
use super::launch::Props;
use super::net::Net;
use super::place::Place;
use super::role::Order;
use super::scenario::Scenario;
use super::soak::Dice;
use super::stage::Stage;
use super::table::Row;
use super::vitals::mebibytes;
use crate::crowd::{Report, Size};

/// Play before the first accident and where none happens.
const CALM: Duration = Duration::from_secs(2);

/// No scenario but the soak takes longer, whatever hangs.
const DEADLINE: Duration = Duration::from_secs(180);

/// A show.
#[derive(Debug)]
pub struct Show {
    arguments: Arguments,
    directory: PathBuf,
    is_on_loopback: bool,
}

impl Show {
    /// A show whose processes write to `directory`. Says on standard output where it takes place.
    ///
    /// # Errors
    /// When there is nothing to test, or no such place.
    pub fn new(arguments: Arguments, directory: PathBuf) -> Result<Self, Fault> {
        if !arguments.binary.is_file() {
            let build = "build it with `cargo build --release -p spawnpoint` or name it with --binary";
            return Err(Fault::new(
                arguments.binary.display(),
                format!("no such program; {build}"),
            ));
        }
        let is_on_loopback = match arguments.namespaces {
            Namespaces::No => true,
            // Built for a moment, to see whether it can be.
            Namespaces::Yes => Net::build().map(|_| false)?,
            Namespaces::Auto => {
                let fault = Net::build().err();
                fault
                    .iter()
                    .for_each(|fault| println!("{fault}; so it goes over loopback"));
                fault.is_some()
            }
        };
        Ok(Self {
            arguments,
            directory,
            is_on_loopback,
        })
    }

    /// Where it takes place, for people.
    pub const fn place(&self) -> &'static str {
        match self.is_on_loopback {
            true => "loopback",
            false => "network namespaces",
        }
    }

    /// Plays a scenario. Whatever goes wrong stands in its row.
    pub async fn play(&self, scenario: Scenario) -> Row {
        let mut row = Row {
            name: scenario.as_str(),
            ..Row::default()
        };
        let deadline = match scenario {
            Scenario::Soak => DEADLINE + self.arguments.soak,
            _ => DEADLINE,
        };
        match tokio::time::timeout(deadline, self.try_play(scenario, &mut row)).await {
            Ok(Ok(())) => {}
            Ok(Err(fault)) => row.problems.push(fault.to_string()),
            Err(_) => row.problems.push(format!("not over within {deadline:?}")),
        }
        row
    }

    async fn try_play(&self, scenario: Scenario, row: &mut Row) -> Result<(), Fault> {
        let place = match self.is_on_loopback {
            true => Place::loopback(self.arguments.seed).await?,
            false => Place::Namespaces(Net::build()?),
        };
        let props = Props {
            binary: self.arguments.binary.clone(),
            directory: self.directory.join(scenario.as_str()),
            size: Size {
                ticks: 100,
                bulks: 4,
                bulk_rate: self.arguments.bulk_rate,
                flows: 20,
            },
            udp_idle: scenario.udp_idle(),
        };
        let mut stage = Stage::start(place, props).await?;
        stage.enter().await?;
        tokio::time::sleep(CALM).await;
        for accident in scenario.accidents(self.arguments.is_quick) {
            self.suffer(accident, &mut stage, row).await?;
        }
        if scenario == Scenario::Soak {
            self.soak(&mut stage, row).await?;
        }
        row.take(&stage.leave().await?, scenario.may_cut_off());
        let leaks = stage.leaks().await?;
        row.leaks = leaks.len();
        row.problems
            .extend(leaks.into_iter().map(|leak| format!("still held: {leak}")));
        let [before, after] = [stage.resident_before(), stage.resident()].map(|both| both.map(mebibytes).join(" and "));
        row.notes.push(format!(
            "resident, relay and agent: {before} when new, {after} at the end"
        ));
        Ok(())
    }

    async fn suffer(&self, accident: Accident, stage: &mut Stage, row: &mut Row) -> Result<Felt, Fault> {
        let felt = accident.happen(stage).await?;
        row.felt(felt.pause);
        row.problems.extend(felt.problems.iter().cloned());
        if felt.parked != [0; 2] && row.name != Scenario::Soak.as_str() {
            let parked = felt.parked.map(mebibytes).join(" and ");
            row.notes
                .push(format!("resident while {accident}, relay and agent: {parked}"));
        }
        Ok(felt)
    }

    async fn soak(&self, stage: &mut Stage, row: &mut Row) -> Result<(), Fault> {
        let (mut dice, start) = (Dice::new(self.arguments.seed), Instant::now());
        let (mut due, mut count, mut parked) = (start, 0, [0; 2]);
        while start.elapsed() < self.arguments.soak {
            let (accident, at) = (dice.accident(), start.elapsed().as_secs_f64());
            let felt = self.suffer(accident, stage, row).await?;
            count += 1;
            parked = [0, 1].map(|side| u64::max(parked[side], felt.parked[side]));
            let report: Report = stage.players.ask(Order::Report).await?;
            println!(
                "{at:6.1} s  {accident}: pause {}; so far {} disconnects, {} wrong bytes, {} mapping changes",
                felt.pause,
                report.disconnects().len(),
                report.wrong(),
                stage.moved().await?
            );
            if report.streams_in() == 0 {
                row.problems.push(format!("nobody is left after {count} accidents"));
                break;
            }
            due += dice.calm();
            tokio::time::sleep_until(due).await;
        }
        let parked = parked.map(mebibytes).join(" and ");
        row.notes
            .push(format!("{count} accidents, --seed {}", self.arguments.seed));
        row.notes
            .push(format!("resident at most while dark, relay and agent: {parked}"));
        Ok(())
    }
}
