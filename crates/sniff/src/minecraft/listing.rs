//! What the server list shows of one server.

use serde_json::{Value, json};

use super::{Violation, text};

/// Characters of a message of the day that are sent; the list shows two lines of about sixty.
const MAX_MOTD: usize = 1_024;

/// Characters of a version name, or of a player in the sample, that are sent.
const MAX_LABEL: usize = 64;

/// Bytes of a picture that are sent: what is left of the longest reply when every other part is at its longest.
const MAX_ICON: usize = 16_384;

/// Names that are sent of the sample; the game shows as many.
const MAX_SAMPLE: usize = 12;

/// An entry of the server list.
///
/// Texts are plain. What is longer than the list can show is clipped when it is sent, so that a reply always fits what clients read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// The name of the server's version, shown to players whose protocol differs.
    pub version: String,
    /// The server's protocol number. A player shows the entry as outdated unless it is their own.
    pub protocol: i32,
    /// Players that are on.
    pub online: u32,
    /// Players that fit.
    pub max: u32,
    /// Names shown when the pointer rests on the player count.
    pub sample: Vec<String>,
    /// The message of the day.
    pub motd: String,
    /// The picture: a PNG of 64 by 64 pixels as a `data:` URL. One that is longer than clients read is left out when it is sent.
    pub icon: Option<String>,
}

impl Listing {
    pub(super) fn to_json(&self) -> String {
        // The game wants an id with each name, though it only shows the name.
        let sample = self.sample.iter().take(MAX_SAMPLE).enumerate().map(|(at, name)| {
            json!({ "name": text::clip(name, MAX_LABEL), "id": format!("00000000-0000-0000-0000-{at:012}") })
        });
        let mut entry = json!({
            "version": { "name": text::clip(&self.version, MAX_LABEL), "protocol": self.protocol },
            "players": { "max": self.max, "online": self.online, "sample": sample.collect::<Vec<_>>() },
            "description": { "text": text::clip(&self.motd, MAX_MOTD) },
        });
        if let Some(icon) = self.icon.as_ref().filter(|icon| icon.len() <= MAX_ICON) {
            entry["favicon"] = json!(icon);
        }
        entry.to_string()
    }

    /// Reads what servers send, which may lack any part.
    ///
    /// # Errors
    /// [`Violation::BadJson`].
    pub fn from_json(json: &str) -> Result<Self, Violation> {
        let root: Value = serde_json::from_str(json).map_err(|_| Violation::BadJson)?;
        if !root.is_object() {
            return Err(Violation::BadJson);
        }
        let (version, players) = (&root["version"], &root["players"]);
        let names = players["sample"].as_array().map(Vec::as_slice).unwrap_or_default();
        Ok(Self {
            version: version["name"].as_str().unwrap_or_default().to_owned(),
            protocol: version["protocol"]
                .as_i64()
                .and_then(|n| n.try_into().ok())
                .unwrap_or(-1),
            online: count(&players["online"]),
            max: count(&players["max"]),
            sample: names
                .iter()
                .filter_map(|one| one["name"].as_str())
                .map(str::to_owned)
                .collect(),
            motd: text::plain(&root["description"]),
            icon: root["favicon"].as_str().map(str::to_owned),
        })
    }
}

/// A number of players; some servers say -1 for "no limit".
fn count(value: &Value) -> u32 {
    value.as_u64().and_then(|n| n.try_into().ok()).unwrap_or(0)
}
