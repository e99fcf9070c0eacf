//! The report as one HTML page: a table, nothing fetched, no script.

use serde_json::Value;

use crate::scoreboard::{Scoreboard, verdict};

const HEAD: &str = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">\
<title>Ghostlight: what was tested</title><style>\
body{font:15px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:70rem;padding:0 1rem;color:#1c1c1c}\
table{border-collapse:collapse;width:100%}td,th{padding:.35rem .6rem;text-align:left;border-bottom:1px solid #ddd;\
vertical-align:top}td.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}\
.met{color:#136c2e}.missed{color:#8a5a00}.BROKEN{color:#fff;background:#b00020;font-weight:600}\
.not{color:#777}</style>";

/// The page.
#[must_use]
pub fn page(board: &Scoreboard) -> String {
    let rows: String = board.rows.iter().map(row).collect();
    let broken = board.broken().len();
    let summary = match broken {
        0 => "No promise was seen broken.".to_owned(),
        count => format!("{count} promises were seen broken."),
    };
    format!(
        "{HEAD}<h1>Ghostlight: what was tested</h1><p>{summary} A figure that misses its target breaks no promise \
         unless it says so. What nothing measured is not met.</p><table><tr><th>row<th>figure<th>value<th>target\
         <th>verdict<th>what was run</tr>{rows}</table></html>\n"
    )
}

fn row(row: &Value) -> String {
    let text = |field: &str| escaped(row[field].as_str().unwrap_or_default());
    let value = match &row["value"] {
        Value::Null => String::new(),
        value => format!("{value} {}", text("unit")),
    };
    let verdict = verdict(row);
    let class = verdict.split(' ').next().unwrap_or_default();
    format!(
        "<tr><td class=n>{}<td>{}<td class=n>{value}<td>{}<td class={class}>{verdict}<td>{}</tr>",
        row["row"],
        text("name"),
        text("target"),
        text("tested"),
    )
}

fn escaped(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    text.replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Row;

    #[test]
    fn texts_are_escaped_and_every_row_is_there() {
        let row = Row::promise(6, "<b>", 1.0, "bugs", 0.0).tested("a & b");
        let board = Scoreboard::read(&row.to_json().to_string()).expect("a whole line");
        let page = page(&board);
        assert!(
            page.contains("&lt;b&gt;") && page.contains("a &amp; b"),
            "{page}"
        );
        assert!(page.contains("class=BROKEN"), "{page}");
        assert_eq!(page.matches("<tr><td").count(), board.rows.len());
    }
}
