//! Where things are kept unless told otherwise.

use std::path::{Path, PathBuf};

use anyhow::Context;

/// The relay's data directory.
pub fn relay_data() -> anyhow::Result<PathBuf> {
    let base = dirs::data_local_dir()
        .context("this user has no home directory: say where to keep data with --data-dir DIR")?;
    Ok(base.join("spawnpoint").join("relay"))
}

/// The agent's state directory.
pub fn agent_state() -> anyhow::Result<PathBuf> {
    let base = dirs::state_dir().or_else(dirs::data_local_dir);
    let base = base.context("this user has no home directory: say where to keep state with --state-dir DIR")?;
    Ok(base.join("spawnpoint").join("agent"))
}

/// What to add to a command so that it finds the same data directory: nothing when it is the usual one.
pub fn flag_for(data_dir: &Path) -> String {
    match relay_data() {
        Ok(usual) if usual == data_dir => String::new(),
        _ => format!(" --data-dir {}", data_dir.display()),
    }
}
