//! Texts as the game writes them: JSON components out, plain words in.

use serde_json::{Value, json};

use super::Violation;

/// Characters of a JSON text that a client reads.
pub(super) const MAX_JSON: usize = 32_767;

/// Characters of a text that we send; escaped at its worst it stays below [`MAX_JSON`].
pub(super) const MAX_TEXT: usize = 1_024;

/// A component that shows `text`, clipped to [`MAX_TEXT`] characters.
pub(super) fn component(text: &str) -> String {
    json!({ "text": clip(text, MAX_TEXT) }).to_string()
}

/// The words of the component in `json`.
pub(super) fn from_json(json: &str) -> Result<String, Violation> {
    serde_json::from_str(json)
        .map(|value| plain(&value))
        .map_err(|_| Violation::BadJson)
}

/// The words of a component, without colours, styles and clicks.
pub(super) fn plain(component: &Value) -> String {
    let mut out = String::new();
    append(component, &mut out);
    out
}

// serde_json refuses more than 128 levels, so the recursion is bounded.
fn append(component: &Value, out: &mut String) {
    match component {
        Value::String(text) => out.push_str(text),
        Value::Array(parts) => parts.iter().for_each(|part| append(part, out)),
        Value::Object(fields) => {
            if let Some(text) = fields.get("text") {
                append(text, out);
            } else if let Some(key) = fields.get("translate") {
                append(key, out);
                // Only the game has the translations; its key and the values in it still tell a reader most of the story.
                for value in fields.get("with").and_then(Value::as_array).into_iter().flatten() {
                    out.push(' ');
                    append(value, out);
                }
            }
            if let Some(extra) = fields.get("extra") {
                append(extra, out);
            }
        }
        Value::Number(number) => out.push_str(&number.to_string()),
        Value::Bool(_) | Value::Null => {}
    }
}

/// The first `max` characters of `text`.
pub(super) fn clip(text: &str, max: usize) -> &str {
    text.char_indices().nth(max).map_or(text, |(end, _)| &text[..end])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn words_are_found_wherever_a_server_puts_them() {
        for (json, words) in [
            (r#""A Minecraft Server""#, "A Minecraft Server"),
            (
                r#"{"text":"A ","extra":[{"text":"green","color":"green"}," day"]}"#,
                "A green day",
            ),
            (r#"["a",{"text":"b"},3]"#, "ab3"),
            (
                r#"{"translate":"multiplayer.disconnect.outdated_client","with":["1.21.4"]}"#,
                "multiplayer.disconnect.outdated_client 1.21.4",
            ),
            ("null", ""),
        ] {
            assert_eq!(from_json(json).unwrap(), words);
        }
        assert_eq!(from_json("{"), Err(Violation::BadJson));
    }

    #[test]
    fn a_json_bomb_is_refused_and_does_not_overflow_the_stack() {
        assert_eq!(from_json(&"[".repeat(30_000)), Err(Violation::BadJson));
    }

    #[test]
    fn the_longest_text_at_its_worst_is_still_read_by_clients() {
        let worst = component(&"\u{1}".repeat(5_000));
        assert!(worst.encode_utf16().count() <= MAX_JSON);
        assert_eq!(from_json(&worst).unwrap().chars().count(), MAX_TEXT);
    }
}
