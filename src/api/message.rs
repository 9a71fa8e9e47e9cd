//! The bound on every text in a status (I11).

/// Of a message, as JSON: with 16 failures of it a status stays within its bound.
pub const MAX_MESSAGE_BYTES: usize = 400;

/// The beginning of `text`.
pub fn bounded(text: &str) -> String {
    let mut room = MAX_MESSAGE_BYTES;
    let fits = |character: &char| {
        let left = room.checked_sub(json_bytes(*character));
        room = left.unwrap_or_default();
        left.is_some()
    };
    text.chars().take_while(fits).collect()
}

/// As the API server writes a character, which escapes what HTML knows.
fn json_bytes(character: char) -> usize {
    match character {
        '"' | '\\' => 2,
        '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => 6,
        control if control.is_control() => 6,
        other => other.len_utf8(),
    }
}
