//! A dead letter by name.

/// A letter as people write it: log and offset.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LetterRef {
    /// Log of its topic.
    pub number: u16,
    /// Its offset there.
    pub offset: u64,
}

impl std::str::FromStr for LetterRef {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('/');
        let letter = parts.and_then(|(number, offset)| {
            Some(Self {
                number: number.parse().ok().filter(|number| *number < 8)?,
                offset: offset.parse().ok()?,
            })
        });
        letter.ok_or_else(|| "write a letter as the list shows it, such as 3/17".to_owned())
    }
}
