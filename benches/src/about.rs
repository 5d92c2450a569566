//! What a report says of its circumstances: the machine, and who takes part.

use crate::binaries::Binaries;
use crate::subject::Subject;

/// The cores that there are.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// The machine and what its cores are for, how busy it is, and the programs of `subjects`, a line each.
pub fn lines(binaries: &Binaries, subjects: &[Subject], cores_for: &str) -> Vec<String> {
    let mut about = vec![format!(
        "{} {}, {} cores for {cores_for}",
        std::env::consts::OS,
        std::env::consts::ARCH,
        cores()
    )];
    // What else the machine did just before is what else it does during the run.
    let busy = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    about.extend(
        busy.split_once(' ')
            .map(|(minute, _)| format!("load average at the start: {minute}")),
    );
    let mut programs: Vec<Subject> = Vec::new();
    for subject in subjects {
        if programs.iter().all(|known| known.program() != subject.program()) {
            programs.push(*subject);
        }
    }
    about.extend(programs.iter().filter_map(|subject| binaries.describe(*subject)));
    let missing = programs.iter().filter(|subject| !binaries.has(**subject));
    let missing: Vec<&str> = missing.map(|subject| subject.program()).collect();
    if !missing.is_empty() {
        about.push(format!("not on PATH: {}", missing.join(", ")));
    }
    about
}
