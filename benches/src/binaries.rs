//! Where the subjects' programs are.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::fault::Fault;
use crate::subject::Subject;

/// A build of ours from nothing takes some minutes on a small machine.
const BUILD_DEADLINE: Duration = Duration::from_secs(30 * 60);

/// The programs that were found.
#[derive(Debug)]
pub struct Binaries {
    found: Vec<(Subject, PathBuf)>,
    target: PathBuf,
}

impl Binaries {
    /// Looks for all programs; ours is built when it is not there.
    ///
    /// # Errors
    /// When ours cannot be had.
    pub async fn find() -> Result<Self, Fault> {
        let target = target_directory();
        let ours = match std::env::var_os("SPAWNPOINT_BIN") {
            Some(path) => PathBuf::from(path),
            None => build(&target).await?,
        };
        if !ours.is_file() {
            return Err(Fault::Failed(format!("there is no {}", ours.display())));
        }
        let mut found = vec![
            (Subject::Spawnpoint, ours.clone()),
            (Subject::Forgetful, ours),
            (Subject::Quinn, std::env::current_exe()?),
        ];
        for peer in Subject::ALL.into_iter().filter(|subject| subject.is_peer()) {
            found.extend(on_path(peer.program()).map(|path| (peer, path)));
        }
        Ok(Self { found, target })
    }

    /// The program of `subject`; none for no tunnel, and for what is not installed.
    pub fn get(&self, subject: Subject) -> Option<&Path> {
        let known = self.found.iter().find(|(known, _)| *known == subject);
        known.map(|(_, path)| path.as_path())
    }

    /// Whether `subject` can be measured here.
    pub fn has(&self, subject: Subject) -> bool {
        subject == Subject::Direct || self.get(subject).is_some()
    }

    /// What `subject` calls itself, where it was found and how old it is: figures of a build from yesterday are yesterday's.
    pub fn describe(&self, subject: Subject) -> Option<String> {
        let path = self.get(subject)?;
        if subject == Subject::Quinn {
            return Some(format!("{}, as in ours, inside this program", subject.program()));
        }
        let flag = if subject == Subject::Nginx { "-v" } else { "--version" };
        let output = Command::new(path).arg(flag).output().ok()?;
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        // One line of `NAME VERSION`, or of the version alone, or nginx's, or rathole's many, one of which is `Build Version: VERSION`.
        let version = text.lines().find_map(|line| {
            let rathole = line.strip_prefix("Build Version:");
            rathole.or_else(|| line.strip_prefix("nginx version: nginx/"))
        });
        let version = version.or_else(|| {
            let line = text.lines().next()?;
            Some(line.split_once(' ').map_or(line, |(_, version)| version))
        });
        let built = path.metadata().and_then(|about| about.modified()).ok()?;
        let minutes = built.elapsed().map_or(0, |age| age.as_secs() / 60);
        Some(format!(
            "{} {}, built {minutes} min ago ({})",
            subject.program(),
            version.unwrap_or("?").trim(),
            path.display()
        ))
    }

    /// Cargo's target directory, for what the bench writes.
    pub fn target(&self) -> &Path {
        &self.target
    }
}

fn workspace() -> &'static Path {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package)
}

/// The directory that this very program was built in, or the usual one.
fn target_directory() -> PathBuf {
    let executable = std::env::current_exe().unwrap_or_default();
    match executable.parent() {
        // TARGET/release/deps/loopback-0123456789abcdef
        Some(deps) if deps.ends_with("release/deps") => deps.ancestors().nth(2).unwrap_or(deps).to_owned(),
        _ => workspace().join("target"),
    }
}

async fn build(target: &Path) -> Result<PathBuf, Fault> {
    let path = target
        .join("release")
        .join(format!("spawnpoint{}", std::env::consts::EXE_SUFFIX));
    if path.is_file() {
        return Ok(path);
    }
    eprintln!("building {} ...", path.display());
    let mut cargo = tokio::process::Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args(["build", "--release", "-p", "spawnpoint", "--target-dir"])
        .arg(target)
        .current_dir(workspace())
        .kill_on_drop(true);
    match tokio::time::timeout(BUILD_DEADLINE, cargo.status()).await {
        Ok(Ok(status)) if status.success() => Ok(path),
        Ok(Ok(status)) => Err(Fault::Failed(format!("cargo build: {status}"))),
        Ok(Err(error)) => Err(Fault::failed("cargo build", error)),
        Err(_) => Err(Fault::Failed("cargo build takes too long".to_owned())),
    }
}

/// The first program on `PATH` that is called `name`.
pub fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let file = format!("{name}{}", std::env::consts::EXE_SUFFIX);
    std::env::split_paths(&path)
        .map(|directory| directory.join(&file))
        .find(|file| file.is_file())
}
