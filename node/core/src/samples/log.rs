//! `log`: keeps lines in the order in which they were appended.

use crate::sdk::prelude::*;

/// A log; its lines are rows of their own, so that appending to a long one stays cheap.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct Log {
    length: u64,
}

#[actor(name = "log")]
impl Log {
    const LINES: StateMap<u64, String> = StateMap::new("lines");

    /// Appends a line, and returns the new length.
    fn append(&mut self, cx: &Turn, line: String) -> u64 {
        Self::LINES.put(cx, &self.length, &line);
        self.length += 1;
        self.length
    }

    /// Every line, in order.
    #[read]
    async fn read(&self, cx: &ReadTurn) -> Vec<String> {
        let mut pages = Self::LINES.pages(cx);
        let mut lines = Vec::new();
        while (lines.len() as u64) < self.length
            && let Some(page) = pages.next().await
        {
            lines.extend(page.into_iter().map(|(_, line)| line));
        }
        assert_eq!(
            lines.len() as u64,
            self.length,
            "{cx:?}: as many lines as were appended"
        );
        lines
    }
}
