//! The relay's certificate: its own, or the operator's files, which are read again when they change.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use spawnpoint_config::FileStamp;
use spawnpoint_config::relay::{CertificateFiles, RelayConfig};
use spawnpoint_net::identity::{Identity, IdentityError};
use spawnpoint_net::tls::ShownCertificate;
use spawnpoint_ops::describe;

use crate::directory::Hosts;
use crate::office::CERTIFICATE_HASH;

/// How often the files are looked at. A renewal has days of time; this only must not be forgotten over a symbolic link that is swapped.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Reads the operator's certificate, or the relay's own in `data_dir`, which is made at the first start.
pub(crate) fn load(config: &RelayConfig, data_dir: &Path) -> Result<Identity, IdentityError> {
    match &config.certificate.files {
        Some(files) => Identity::load(&files.cert, &files.key),
        None => Identity::load_or_make(data_dir),
    }
}

/// Shows the operator's files anew when they change, as long as it is polled.
pub(crate) async fn follow(files: CertificateFiles, shown: Arc<ShownCertificate>, hosts: Hosts) {
    let paths = [files.cert.as_path(), files.key.as_path()];
    let mut pace = tokio::time::interval(LOOK_EVERY);
    let mut last = FileStamp::of(&paths);
    let mut told = None;
    loop {
        pace.tick().await;
        let stamp = FileStamp::of(&paths);
        if stamp == last {
            continue;
        }
        let identity = match Identity::load(&files.cert, &files.key) {
            Ok(identity) => identity,
            Err(error) => {
                // Both files are rarely replaced in the same instant: the next look finds them whole.
                if told.as_ref() != Some(&stamp) {
                    tracing::warn!(error = %describe(&error), "the new certificate cannot be read yet, the old one stays");
                    told = Some(stamp);
                }
                continue;
            }
        };
        last = stamp;
        let hash = identity.hash();
        match shown.replace(identity) {
            Ok(()) => tracing::info!(certificate = %hash, "the certificate was replaced"),
            Err(error) => {
                tracing::warn!(%error, "the new certificate and key do not fit, the old ones stay");
                continue;
            }
        }
        if let Err(error) = hosts.set_setting(CERTIFICATE_HASH, hash.to_string()).await {
            tracing::error!(error = %describe(&error), "new invites will name the old certificate");
        }
    }
}
