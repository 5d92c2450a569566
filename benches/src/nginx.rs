//! nginx as a forwarder of UDP, as it comes: one worker, one socket to the origin for each player.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use crate::fault::Fault;
use crate::knock::START_DEADLINE;
use crate::process;

/// What keeps it the process that was started: it ends with its handle, and its processor time is all there is.
pub const FOREGROUND: &str = "daemon off; master_process off;";

/// Its configuration file for players at `players`.
///
/// # Errors
/// When it does not say where its modules are.
pub async fn config(program: &Path, players: SocketAddr, origin: SocketAddr) -> Result<String, Fault> {
    let mut about = Command::new(program);
    about.arg("-V");
    let about = process::output(about, START_DEADLINE).await?.stderr;
    let directory = about
        .split_whitespace()
        .find_map(|word| word.strip_prefix("--modules-path="));
    let module = directory.map(|directory| Path::new(directory).join("ngx_stream_module.so"));
    // Where there is no such file, `stream` is built in or nginx says that it does not know it.
    let load = module.filter(|module| module.is_file());
    let load = load.map_or(String::new(), |module| format!("load_module {};\n", module.display()));
    Ok(format!(
        "{load}pid nginx.pid;\n\
         error_log stderr;\n\
         events {{ worker_connections 4096; }}\n\
         stream {{ server {{ listen {players} udp; proxy_pass {origin}; proxy_timeout 60s; }} }}\n"
    ))
}
