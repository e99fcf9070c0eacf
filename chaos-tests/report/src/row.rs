//! One measured figure: what it is, what it should be, and what was run for it.

use std::fs::{self, OpenOptions};
use std::io::Write as _;

use serde_json::{Value, json};

/// Whether a figure that misses its target breaks a promise.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// It does: the run fails.
    Promise,
    /// It does not: a figure to be proud of or to work on.
    Figure,
}

/// Which side of its target a figure must be on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Side {
    AtMost,
    AtLeast,
}

/// One figure.
#[derive(Clone, PartialEq, Debug)]
pub struct Row {
    row: u8,
    name: String,
    value: f64,
    unit: String,
    target: f64,
    side: Side,
    kind: Kind,
    repeated: Repeated,
    tested: String,
}

/// What a second figure of the same name means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Repeated {
    /// It takes the place of the first.
    Replaces,
    /// Both count: the sum is the figure.
    Adds,
}

impl Row {
    /// A figure that must be at most its target, else a promise is broken. `row` is that of the
    /// scoreboard.
    #[must_use]
    pub fn promise(row: u8, name: &str, value: f64, unit: &str, target: f64) -> Self {
        Self {
            row,
            name: name.to_owned(),
            value,
            unit: unit.to_owned(),
            target,
            side: Side::AtMost,
            kind: Kind::Promise,
            repeated: Repeated::Replaces,
            tested: String::new(),
        }
    }

    /// A figure that should be at most its target.
    #[must_use]
    pub fn figure(row: u8, name: &str, value: f64, unit: &str, target: f64) -> Self {
        Self {
            kind: Kind::Figure,
            ..Self::promise(row, name, value, unit, target)
        }
    }

    /// It must be at least its target instead.
    #[must_use]
    pub fn at_least(self) -> Self {
        Self {
            side: Side::AtLeast,
            ..self
        }
    }

    /// Its name comes again with every part of a run, and the figure is their sum.
    #[must_use]
    pub fn summed(self) -> Self {
        Self {
            repeated: Repeated::Adds,
            ..self
        }
    }

    /// How much was run for it.
    #[must_use]
    pub fn tested(self, what: &str) -> Self {
        Self {
            tested: what.to_owned(),
            ..self
        }
    }

    /// Whether the target is met. What is no number is not.
    #[must_use]
    pub fn is_met(&self) -> bool {
        match self.side {
            Side::AtMost => self.value <= self.target,
            Side::AtLeast => self.value >= self.target,
        }
    }

    /// As it stands in the report.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let side = match self.side {
            Side::AtMost => "at most",
            Side::AtLeast => "at least",
        };
        let rounded = (self.value * 1_000.0).round() / 1_000.0;
        json!({
            "row": self.row,
            "name": self.name,
            "value": rounded,
            "unit": self.unit,
            "target": format!("{side} {}", self.target),
            "met": self.is_met(),
            "tested": self.tested,
            "promise": self.kind == Kind::Promise,
            "summed": self.repeated == Repeated::Adds,
        })
    }

    /// Adds it to the rows of this run. Several processes may do so at once: one line is one write.
    ///
    /// # Panics
    /// When it cannot be written: a figure that is lost would be taken for one that was not
    /// measured.
    pub fn append(&self) {
        let folder = super::folder();
        let path = folder.join("rows.jsonl");
        let line = format!("{}\n", self.to_json());
        let written = fs::create_dir_all(&folder).and_then(|()| {
            let mut file = OpenOptions::new().create(true).append(true).open(&path)?;
            file.write_all(line.as_bytes())
        });
        written.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}

/// A figure as it stands after one more of the same name.
#[must_use]
pub fn joined(before: &Value, after: Value) -> Value {
    let mut after = after;
    let (Some(a), Some(b)) = (before["value"].as_f64(), after["value"].as_f64()) else {
        return after;
    };
    if after["summed"] != true {
        return after;
    }
    let sum = a + b;
    let target = after["target"].as_str().unwrap_or_default().to_owned();
    let limit: Option<f64> = target.rsplit(' ').next().and_then(|n| n.parse().ok());
    let is_met = limit.is_some_and(|limit| match target.starts_with("at most") {
        true => sum <= limit,
        false => sum >= limit,
    });
    after["value"] = json!(sum);
    after["met"] = json!(is_met);
    let tested = after["tested"].as_str().unwrap_or_default().to_owned();
    after["tested"] = json!(match tested.starts_with("sum: ") {
        true => tested,
        false => format!("sum: the last part was {tested}"),
    });
    after
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides_and_kinds() {
        let gap = Row::promise(10, "gap", 0.9, "s", 1.0);
        assert!(gap.is_met());
        assert!(!Row::promise(10, "gap", 1.1, "s", 1.0).is_met());
        assert!(
            !Row::figure(1, "seeds", 200.0, "seeds", 1_000.0)
                .at_least()
                .is_met()
        );
        assert!(
            Row::figure(1, "seeds", 1_000.0, "seeds", 1_000.0)
                .at_least()
                .is_met()
        );
        assert!(!Row::promise(10, "nothing", f64::NAN, "s", 1.0).is_met());
    }

    #[test]
    fn sums_are_judged_again() {
        let one = Row::figure(1, "seeds", 600.0, "seeds", 1_000.0)
            .at_least()
            .summed()
            .to_json();
        assert_eq!(one["met"], false);
        let two = joined(&one, one.clone());
        assert_eq!(
            (&two["value"], &two["met"]),
            (&json!(1_200.0), &json!(true))
        );
        let broken = Row::promise(1, "violations", 1.0, "seeds", 0.0)
            .summed()
            .to_json();
        let none = Row::promise(1, "violations", 0.0, "seeds", 0.0)
            .summed()
            .to_json();
        assert_eq!(
            joined(&broken, none)["met"],
            false,
            "a later part heals nothing"
        );
    }

    #[test]
    fn the_names_of_the_fields() {
        let row = Row::promise(10, "gap", 0.512_34, "s", 1.0).tested("4 kills");
        let json = row.to_json();
        assert_eq!(json["target"], "at most 1");
        assert_eq!(json["value"], 0.512);
        for field in ["row", "name", "value", "unit", "target", "met", "tested"] {
            assert!(!json[field].is_null(), "{field}");
        }
    }
}
