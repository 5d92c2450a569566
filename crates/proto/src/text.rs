//! What a peer says to people.

/// The longest that a person is shown.
const MAX_SHOWN: usize = 500;

/// `text` as it can be shown to a person: without what moves a cursor, colours a terminal or turns the direction of writing, and not without end.
pub fn plain(text: &str) -> String {
    let is_harmless = |char: &char| {
        !char.is_control()
            && !matches!(char, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars()
        .map(|char| if char.is_whitespace() { ' ' } else { char })
        .filter(is_harmless)
        .take(MAX_SHOWN)
        .collect()
}

/// As much of `text` as fits into `most` bytes.
pub fn cut(text: &str, most: usize) -> &str {
    &text[..text.floor_char_boundary(most)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_two_letters() {
        assert_eq!(cut("héé", 4), "hé");
        assert_eq!(cut("hé", 120), "hé");
    }

    #[test]
    fn what_would_move_a_cursor_is_left_out() {
        assert_eq!(plain("no\u{1b}[2J\r\nport \u{202e}left ü"), "no[2J  port left ü");
        assert_eq!(plain(&"x".repeat(10_000)).len(), MAX_SHOWN);
    }
}
