//! Texts for people that travel: error details, refusals, the messages of panics.
//!
//! Whoever writes them may put anything in, the caller's own body included. They are cut where they
//! enter the system, so that no frame, log entry or row can outgrow its bound by a text.

use crate::limits::TEXT_BYTES_MAX;

/// Cuts a text to `TEXT_BYTES_MAX` bytes, between two characters; a cut one says so at its end.
#[must_use]
pub fn cut(mut text: String) -> String {
    if text.len() <= TEXT_BYTES_MAX {
        return text;
    }
    let mark = format!(" ... [cut, {} bytes in all]", text.len());
    let mut end = TEXT_BYTES_MAX - mark.len();
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text.push_str(&mark);
    text.shrink_to_fit();
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_between_characters_and_say_so() {
        let exact = "x".repeat(TEXT_BYTES_MAX);
        assert_eq!(cut(exact.clone()), exact, "a text that fits stays");
        for character in ["x", "ä", "€", "🎭"] {
            for offset in 0..4 {
                let text = "y".repeat(offset) + &character.repeat(TEXT_BYTES_MAX + 1);
                let whole = text.len();
                let cut = cut(text);
                assert!(cut.len() <= TEXT_BYTES_MAX, "{character}: {}", cut.len());
                assert!(cut.len() > TEXT_BYTES_MAX - 8, "{character}: {}", cut.len());
                let mark = format!(" ... [cut, {whole} bytes in all]");
                assert!(cut.ends_with(&mark), "{character}");
            }
        }
    }
}
