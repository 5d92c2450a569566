//! Starting the process that takes over from this one.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use spawnpoint_net::{Channel, spawn_successor};

/// How this process was started, and so its successor is. Read at the start: later the file may be gone, or another.
#[derive(Clone, Debug)]
pub struct Program {
    path: PathBuf,
    arguments: Vec<OsString>,
}

impl Program {
    /// This program and its arguments.
    pub fn here() -> anyhow::Result<Self> {
        let mut words = std::env::args_os();
        let given = words.next().map(PathBuf::from);
        // A path as it was given may lead through a symbolic link that is another version's by then; a bare name was found by the shell.
        let path = match given.filter(|path| path.components().count() > 1) {
            Some(path) => std::path::absolute(path).context("cannot find this program's own file")?,
            None => std::env::current_exe().context("cannot find this program's own file")?,
        };
        Ok(Self {
            path,
            arguments: words.collect(),
        })
    }

    /// Starts the program anew, as it is now, to take over at the other end of the channel.
    pub async fn start(&self) -> anyhow::Result<Channel> {
        if std::process::id() == 1 {
            bail!(
                "this is the first process of a container, which ends with it: start a container of the new version instead"
            );
        }
        let (channel, theirs) = Channel::pair().context("cannot open a channel to a new process")?;
        let started = spawn_successor(&self.path, &self.arguments, theirs).await;
        started.with_context(|| cannot_start(&self.path))?;
        Ok(channel)
    }
}

fn cannot_start(path: &Path) -> String {
    format!("cannot start {}: is it there, and executable?", path.display())
}
