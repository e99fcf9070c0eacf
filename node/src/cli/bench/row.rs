//! The rows: their names, units and budgets, one for each line of the table of budgets, and what
//! was measured.

use serde::Serialize;

use super::order::Report;
use crate::cli::table::{Align, Table};

/// What a budget bounds.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Budget {
    /// The row only informs.
    None,
    /// Value by baseline is at least this.
    RatioMin(f64),
    /// Value by baseline is at most this.
    RatioMax(f64),
    /// The value itself is at most this.
    ValueMax(f64),
    /// The value itself is at least this.
    ValueMin(f64),
}

/// A row before it is measured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spec {
    pub(super) name: &'static str,
    pub(super) unit: &'static str,
    pub(super) budget: Budget,
}

const fn spec(name: &'static str, unit: &'static str, budget: Budget) -> Spec {
    Spec { name, unit, budget }
}

/// Every row, in the order in which they are shown.
pub(super) const SPECS: [Spec; 48] = [
    spec("machine", "cores", Budget::None),
    spec("fsync", "us", Budget::None),
    spec("load_generator", "calls/s", Budget::None),
    spec("read_remote_alone", "us", Budget::RatioMax(3.0)),
    spec("read_remote_64", "calls/s", Budget::RatioMin(0.3)),
    spec("read_remote_512", "calls/s", Budget::RatioMin(0.3)),
    spec("read_local_alone", "calls/s", Budget::RatioMin(0.3)),
    spec("read_local_64", "calls/s", Budget::RatioMin(0.3)),
    spec("read_local_512", "calls/s", Budget::RatioMin(0.3)),
    spec("turn_bytes", "bytes", Budget::None),
    spec("turn_single_256", "turns/s", Budget::RatioMin(0.2)),
    spec("turn_three_alone", "us", Budget::RatioMax(1.5)),
    spec("turn_three_256", "turns/s", Budget::RatioMin(0.3)),
    spec("turn_cpu", "us", Budget::ValueMax(60.0)),
    spec("turn_actors_100k", "turns/s", Budget::RatioMin(0.9)),
    spec("idle_cpu", "% of a core", Budget::ValueMax(2.0)),
    spec("idle_memory", "MiB", Budget::ValueMax(150.0)),
    spec("idle_activation", "bytes", Budget::ValueMax(1_024.0)),
    spec("join_failed", "calls", Budget::ValueMax(0.0)),
    spec("join_p99", "us", Budget::RatioMax(3.0)),
    spec("join_time", "s", Budget::None),
    spec("overload_capacity", "turns/s", Budget::None),
    spec("overload_2x", "turns/s", Budget::RatioMin(0.9)),
    spec("overload_10x", "turns/s", Budget::RatioMin(0.8)),
    spec("overload_after", "turns/s", Budget::RatioMin(0.9)),
    spec("overload_memory", "MiB", Budget::ValueMax(1_024.0)),
    spec("api_echo", "us", Budget::ValueMax(150.0)),
    spec("app_echo", "us", Budget::RatioMax(1.3)),
    spec("app_activation", "us", Budget::ValueMax(4_800.0)),
    spec("app_calls", "calls/s", Budget::ValueMin(10_800.0)),
    spec("reminders_set", "reminders/s", Budget::ValueMin(2_000.0)),
    spec("reminders_fired", "reminders/s", Budget::ValueMin(20_000.0)),
    spec("app_memory", "MiB", Budget::ValueMax(150.0)),
    spec("publish_one", "events/s", Budget::RatioMin(3.0)),
    spec("publish_one_nats", "events/s", Budget::RatioMin(10.0)),
    spec("publish_three", "events/s", Budget::RatioMin(5.0)),
    spec("topic_group", "events/s", Budget::RatioMin(1.0)),
    spec("topic_wakeup", "us", Budget::ValueMax(5_000.0)),
    spec("topic_idle", "% of a core", Budget::ValueMax(1.0)),
    spec("ephemeral_8", "us", Budget::ValueMax(2.0)),
    spec("ephemeral_8_nats", "deliveries/s", Budget::RatioMin(0.5)),
    spec(
        "ephemeral_8_mosquitto",
        "deliveries/s",
        Budget::RatioMin(3.0),
    ),
    spec("ephemeral_8_paced", "us", Budget::RatioMax(1.0)),
    spec("ephemeral_8_stuck", "us", Budget::RatioMax(1.1)),
    spec("ephemeral_32", "us", Budget::ValueMax(2.0)),
    spec("ephemeral_32_nats", "deliveries/s", Budget::RatioMin(0.5)),
    spec(
        "ephemeral_32_mosquitto",
        "deliveries/s",
        Budget::RatioMin(3.0),
    ),
    spec("ephemeral_32_paced", "us", Budget::RatioMax(1.0)),
];

/// A measured row. Field names are the contract of `--json`.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(super) struct Row {
    /// Its name.
    pub(super) name: &'static str,
    /// Unit of value and baseline.
    pub(super) unit: &'static str,
    /// What was measured.
    pub(super) value: f64,
    /// What the bare baseline reached in the same run.
    pub(super) baseline: Option<f64>,
    /// Value by baseline.
    pub(super) ratio: Option<f64>,
    /// The bound.
    pub(super) budget: Option<f64>,
    /// What it bounds: `ratio_min`, `ratio_max`, `value_min` or `value_max`.
    pub(super) budget_is: Option<&'static str>,
    /// Whether it is kept.
    pub(super) met: Option<bool>,
    /// Median latency, in microseconds.
    pub(super) p50_us: Option<f64>,
    /// The same of 99 in 100.
    pub(super) p99_us: Option<f64>,
    /// The same of 999 in 1,000.
    pub(super) p999_us: Option<f64>,
    /// Calls that failed.
    pub(super) failed: Option<u64>,
    /// What the baseline is, and what else belongs to the figures.
    pub(super) note: String,
}

impl Row {
    /// A row with a value alone.
    ///
    /// # Panics
    /// When no row has the name.
    pub(super) fn new(name: &'static str, value: f64) -> Self {
        let spec = spec_of(name);
        let row = Self {
            name,
            unit: spec.unit,
            value,
            baseline: None,
            ratio: None,
            budget: None,
            budget_is: None,
            met: None,
            p50_us: None,
            p99_us: None,
            p999_us: None,
            failed: None,
            note: String::new(),
        };
        row.judged()
    }

    /// With what it is compared to.
    pub(super) fn against(mut self, baseline: f64, note: impl Into<String>) -> Self {
        self.baseline = Some(baseline);
        self.ratio = (baseline > 0.0).then(|| self.value / baseline);
        self.note = note.into();
        self.judged()
    }

    /// With percentiles and failures.
    pub(super) fn seen(mut self, report: &Report) -> Self {
        if !report.latencies.is_empty() {
            self.p50_us = Some(report.micros_at(0.5));
            self.p99_us = Some(report.micros_at(0.99));
            self.p999_us = Some(report.micros_at(0.999));
        }
        self.failed = Some(report.failed);
        if let Some(why) = &report.failure {
            self.note(&format!("first failure: {why}"));
        }
        self
    }

    pub(super) fn noted(mut self, note: &str) -> Self {
        self.note(note);
        self
    }

    fn note(&mut self, note: &str) {
        if !self.note.is_empty() {
            self.note.push_str("; ");
        }
        self.note.push_str(note);
    }

    fn judged(mut self) -> Self {
        let (budget, what, met) = match spec_of(self.name).budget {
            Budget::None => (None, None, None),
            Budget::RatioMin(least) => (
                Some(least),
                Some("ratio_min"),
                self.ratio.map(|ratio| ratio >= least),
            ),
            Budget::RatioMax(most) => (
                Some(most),
                Some("ratio_max"),
                self.ratio.map(|ratio| ratio <= most),
            ),
            Budget::ValueMax(most) => (Some(most), Some("value_max"), Some(self.value <= most)),
            Budget::ValueMin(least) => (Some(least), Some("value_min"), Some(self.value >= least)),
        };
        (self.budget, self.budget_is, self.met) = (budget, what, met);
        self
    }

    /// The medians of a row's repeats.
    ///
    /// # Panics
    /// When there is none.
    pub(super) fn median(repeats: &[Self]) -> Self {
        let first = &repeats[0];
        let of = |field: fn(&Self) -> Option<f64>| median(repeats.iter().filter_map(field));
        let row = Self {
            value: of(|row| Some(row.value)).unwrap_or(first.value),
            baseline: of(|row| row.baseline),
            ratio: of(|row| row.ratio),
            p50_us: of(|row| row.p50_us),
            p99_us: of(|row| row.p99_us),
            p999_us: of(|row| row.p999_us),
            // Failures are not a matter of luck: all of them are told.
            failed: repeats
                .iter()
                .map(|row| row.failed)
                .try_fold(0, |sum, n| Some(sum + n?)),
            ..first.clone()
        };
        row.judged()
    }
}

fn spec_of(name: &str) -> Spec {
    let found = SPECS.into_iter().find(|spec| spec.name == name);
    found.expect("rows are made by the names in the list")
}

fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        count if count % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}

/// The rows for people.
pub(super) fn table(rows: &[Row]) -> String {
    let mut table = Table::new(&[
        ("NAME", Align::Left),
        ("VALUE", Align::Right),
        ("UNIT", Align::Left),
        ("BASELINE", Align::Right),
        ("RATIO", Align::Right),
        ("BUDGET", Align::Left),
        ("MET", Align::Left),
        ("P50 us", Align::Right),
        ("P99 us", Align::Right),
        ("P99.9 us", Align::Right),
        ("FAILED", Align::Right),
        ("NOTE", Align::Left),
    ]);
    let or_dash = |number: Option<f64>| number.map_or_else(|| "-".to_owned(), shown);
    for row in rows {
        table.row(vec![
            row.name.to_owned(),
            shown(row.value),
            row.unit.to_owned(),
            or_dash(row.baseline),
            or_dash(row.ratio),
            budget(row),
            match row.met {
                Some(true) => "yes",
                Some(false) => "NO",
                None => "-",
            }
            .to_owned(),
            or_dash(row.p50_us),
            or_dash(row.p99_us),
            or_dash(row.p999_us),
            row.failed.map_or_else(|| "-".to_owned(), |n| n.to_string()),
            row.note.clone(),
        ]);
    }
    table.render()
}

fn budget(row: &Row) -> String {
    match spec_of(row.name).budget {
        Budget::None => "-".to_owned(),
        Budget::RatioMin(least) => format!("ratio >= {least}"),
        Budget::RatioMax(most) => format!("ratio <= {most}"),
        Budget::ValueMax(most) => format!("value <= {most}"),
        Budget::ValueMin(least) => format!("value >= {least}"),
    }
}

/// Three digits that matter.
fn shown(number: f64) -> String {
    match number.abs() {
        large if large >= 100.0 || large == 0.0 => format!("{number:.0}"),
        large if large >= 10.0 => format!("{number:.1}"),
        _ => format!("{number:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_are_judged_by_what_they_bound() {
        for (row, met) in [
            (
                Row::new("read_remote_64", 30.0).against(100.0, ""),
                Some(true),
            ),
            (
                Row::new("read_remote_64", 29.0).against(100.0, ""),
                Some(false),
            ),
            (
                Row::new("turn_three_alone", 3.0).against(2.0, ""),
                Some(true),
            ),
            (
                Row::new("turn_three_alone", 3.1).against(2.0, ""),
                Some(false),
            ),
            (Row::new("turn_cpu", 60.0), Some(true)),
            (Row::new("turn_cpu", 61.0), Some(false)),
            (Row::new("app_calls", 10_800.0), Some(true)),
            (Row::new("app_calls", 10_799.0), Some(false)),
            (Row::new("join_failed", 0.0), Some(true)),
            (Row::new("join_failed", 1.0), Some(false)),
            (Row::new("read_remote_64", 29.0), None),
            (Row::new("machine", 2.0), None),
        ] {
            assert_eq!(row.met, met, "{row:?}");
        }
    }

    #[test]
    fn medians_are_judged_again_and_failures_add_up() {
        let report = |failed| Report {
            failed,
            ..Report::default()
        };
        let rows = [(10.0, 0), (80.0, 2), (70.0, 0)]
            .map(|(value, failed)| Row::new("turn_cpu", value).seen(&report(failed)));
        let median = Row::median(&rows);
        assert_eq!((median.value, median.met), (70.0, Some(false)));
        assert_eq!((median.failed, median.p50_us), (Some(2), None));
        assert_eq!(Row::median(&rows[..2]).value, 45.0);
    }

    #[test]
    fn names_are_unique_and_shown() {
        let mut names: Vec<&str> = SPECS.iter().map(|spec| spec.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), SPECS.len());
        let text = table(&[Row::new("turn_cpu", 41.25)]);
        assert!(
            text.contains("41.2") && text.contains("value <= 60"),
            "{text}"
        );
    }
}
