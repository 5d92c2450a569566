//! The configuration with everything that it names read, as one value that is replaced whenever the file changes.

use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use spawnpoint_config::relay::RelayConfig;
use spawnpoint_ops::RelayMetrics;

use crate::access::Borders;
use crate::dnsbl::Blocklists;
use crate::start::RelayError;

/// Bytes of a picture that still fits into an entry of the server list.
const MAX_ICON: usize = 12 * 1024;

/// The configuration, with what it names read.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub config: RelayConfig,
    /// The picture of servers that have shown none, as a `data:` URL.
    pub icon: Option<String>,
    /// From where players may come.
    pub borders: Borders,
    /// Which lists are asked about them.
    pub blocklists: Option<Arc<Blocklists>>,
}

impl Deref for Settings {
    type Target = RelayConfig;

    fn deref(&self) -> &RelayConfig {
        &self.config
    }
}

impl Settings {
    /// Reads what `config` names. Lists that are the same as those of `before` keep what they know.
    ///
    /// # Errors
    /// [`RelayError`], when something cannot be read.
    pub fn load(config: RelayConfig, metrics: &RelayMetrics, before: Option<&Self>) -> Result<Self, RelayError> {
        let icon = config.away.icon.as_deref().map(load_icon).transpose()?;
        let borders = Borders::load(&config.guard)?;
        let known = before.and_then(|before| before.blocklists.clone());
        let blocklists = match known.filter(|lists| *lists.settings() == config.dnsbl) {
            Some(lists) => Some(lists),
            None => Blocklists::open(&config.dnsbl, metrics)
                .map_err(RelayError::Dnsbl)?
                .map(Arc::new),
        };
        Ok(Self {
            config,
            icon,
            borders,
            blocklists,
        })
    }
}

/// Reads the picture for servers that are away.
fn load_icon(path: &Path) -> Result<String, RelayError> {
    let fail = |why: &str| RelayError::Icon {
        path: path.to_owned(),
        why: why.to_owned(),
    };
    let png = std::fs::read(path).map_err(|error| fail(&error.to_string()))?;
    // Signature, length and type of the first chunk, then width and height.
    let is_png = png.starts_with(b"\x89PNG\r\n\x1a\n") && png.get(12..16) == Some(b"IHDR");
    match png.get(16..24) {
        _ if !is_png => Err(fail("it is no PNG")),
        Some([0, 0, 0, 64, 0, 0, 0, 64]) if png.len() <= MAX_ICON => {
            Ok(format!("data:image/png;base64,{}", BASE64.encode(png)))
        }
        Some([0, 0, 0, 64, 0, 0, 0, 64]) => Err(fail("it is too large")),
        _ => Err(fail("it has another size")),
    }
}
