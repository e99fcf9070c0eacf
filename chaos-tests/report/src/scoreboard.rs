//! The twenty rows, and what this run says to each.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::row::joined;

/// Number of a row, and what it is about.
pub const ROWS: [(u8, &str); 20] = [
    (1, "simulated seeds without a violation"),
    (2, "simulated time"),
    (3, "speed of the simulator"),
    (4, "seeds that replay identically"),
    (5, "interesting things reached"),
    (6, "deliberate bugs caught"),
    (7, "seeds with real QUIC inside"),
    (8, "histories of real processes that were checked"),
    (9, "kinds of faults, and workloads"),
    (10, "kill -9 of the busiest node"),
    (11, "the busiest node frozen"),
    (12, "a minority cut off"),
    (13, "power lost everywhere"),
    (14, "one copy damaged"),
    (15, "a disk replaced by an empty one"),
    (16, "a node that is neither well nor dead"),
    (17, "live nodes that were removed"),
    (18, "wrong clocks"),
    (19, "overload"),
    (20, "memory under overload"),
];

/// The report of a run.
#[derive(Clone, Debug)]
pub struct Scoreboard {
    /// Every figure in the order of its row, and one for each row that nothing has measured.
    pub rows: Vec<Value>,
}

impl Scoreboard {
    /// Takes what tests have appended, one JSON object a line. Of two figures of one name the later
    /// one counts, or their sum.
    ///
    /// # Errors
    /// A line that is none: the report would be short of a figure.
    pub fn read(lines: &str) -> Result<Self, String> {
        let mut figures: BTreeMap<(u64, String), Value> = BTreeMap::new();
        for line in lines.lines().filter(|line| !line.trim().is_empty()) {
            let figure: Value =
                serde_json::from_str(line).map_err(|error| format!("{line}: {error}"))?;
            let row = figure["row"].as_u64().unwrap_or(0);
            let name = figure["name"].as_str().unwrap_or_default().to_owned();
            let key = (row, name);
            let figure = match figures.get(&key) {
                Some(before) => joined(before, figure),
                None => figure,
            };
            figures.insert(key, figure);
        }
        for (row, name) in ROWS {
            if !figures.keys().any(|(number, _)| *number == u64::from(row)) {
                figures.insert((u64::from(row), String::new()), not_measured(row, name));
            }
        }
        Ok(Self {
            rows: figures.into_values().collect(),
        })
    }

    /// Promises that this run has seen broken.
    #[must_use]
    pub fn broken(&self) -> Vec<String> {
        let broken = self
            .rows
            .iter()
            .filter(|row| row["promise"] == true && row["met"] != true);
        broken.map(line_of).collect()
    }

    /// One line for each figure.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.rows.iter().map(line_of).collect()
    }
}

fn not_measured(row: u8, name: &str) -> Value {
    json!({
        "row": row,
        "name": name,
        "value": null,
        "unit": "",
        "target": "",
        "met": null,
        "tested": "not measured",
        "promise": false,
    })
}

/// What a reader is told of whether a target is met.
#[must_use]
pub fn verdict(row: &Value) -> &'static str {
    match (row["met"].as_bool(), row["promise"] == true) {
        (Some(true), _) => "met",
        (Some(false), true) => "BROKEN",
        (Some(false), false) => "missed",
        (None, _) => "not measured",
    }
}

fn line_of(row: &Value) -> String {
    let text = |field: &str| row[field].as_str().unwrap_or_default().to_owned();
    if row["met"].is_null() {
        return format!("{:>2}  {}: not measured", row["row"], text("name"));
    }
    format!(
        "{:>2}  {}: {} {} ({}; {}; {})",
        row["row"],
        text("name"),
        row["value"],
        text("unit"),
        text("target"),
        verdict(row),
        text("tested"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Row;

    fn board(rows: &[Row]) -> Scoreboard {
        let lines: Vec<String> = rows.iter().map(|row| row.to_json().to_string()).collect();
        Scoreboard::read(&lines.join("\n")).expect("whole lines")
    }

    #[test]
    fn what_nothing_measures_is_not_met() {
        let board = board(&[]);
        assert_eq!(board.rows.len(), ROWS.len());
        assert!(board.rows.iter().all(|row| row["met"].is_null()));
        assert!(
            board
                .lines()
                .iter()
                .all(|line| line.ends_with("not measured"))
        );
        assert!(board.broken().is_empty());
    }

    #[test]
    fn the_later_figure_counts_and_only_promises_are_broken() {
        let board = board(&[
            Row::promise(12, "acknowledged by the minority", 0.0, "calls", 0.0),
            Row::promise(12, "acknowledged by the minority", 1.0, "calls", 0.0),
            Row::figure(3, "speed", 10.0, "x", 1_000.0).at_least(),
        ]);
        assert_eq!(board.rows.len(), ROWS.len());
        let broken = board.broken();
        assert_eq!(broken.len(), 1, "{broken:?}");
        assert!(
            broken[0].contains("acknowledged by the minority"),
            "{broken:?}"
        );
    }

    #[test]
    fn a_damaged_line_is_no_report() {
        assert!(Scoreboard::read("{\"row\": 1").is_err());
    }
}
