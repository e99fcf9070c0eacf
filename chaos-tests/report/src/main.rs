//! `ghostlight-report begin` forgets the rows of the last run, `ghostlight-report part NAME SECONDS
//! STATUS` notes how a part of this one ended, `ghostlight-report` makes its report.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use ghostlight_report::scoreboard::Scoreboard;
use ghostlight_report::{Row, folder, page};

fn main() -> ExitCode {
    let folder = folder();
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match args[..] {
        ["begin"] => begin(&folder).map(|()| Vec::new()),
        ["part", name, seconds, status] => part(name, seconds, status).map(|()| Vec::new()),
        [] => end(&folder),
        _ => Err(format!(
            "{args:?}: begin, part NAME SECONDS STATUS, or nothing"
        )),
    };
    match done {
        Ok(broken) if broken.is_empty() => ExitCode::SUCCESS,
        Ok(broken) => {
            println!("broken promises:\n{}", broken.join("\n"));
            ExitCode::FAILURE
        }
        Err(why) => {
            println!("no report in {}: {why}", folder.display());
            ExitCode::FAILURE
        }
    }
}

fn begin(folder: &Path) -> Result<(), String> {
    for name in ["rows.jsonl", "report.json", "index.html"] {
        match fs::remove_file(folder.join(name)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error.to_string());
            }
            _ => {}
        }
    }
    Ok(())
}

/// A part that fails is a row of its own: what it would have measured is missing.
fn part(name: &str, seconds: &str, status: &str) -> Result<(), String> {
    let status: f64 = status
        .parse()
        .map_err(|error| format!("{status}: {error}"))?;
    Row::promise(0, &format!("part {name}: exit status"), status, "", 0.0)
        .tested(&format!("{seconds} s"))
        .append();
    Ok(())
}

/// Writes the report; returns the promises that were broken.
fn end(folder: &Path) -> Result<Vec<String>, String> {
    let rows = fs::read_to_string(folder.join("rows.jsonl")).unwrap_or_default();
    let board = Scoreboard::read(&rows)?;
    let json = serde_json::to_string_pretty(&board.rows).map_err(|error| error.to_string())?;
    fs::create_dir_all(folder)
        .and_then(|()| fs::write(folder.join("report.json"), json + "\n"))
        .and_then(|()| fs::write(folder.join("index.html"), page::page(&board)))
        .map_err(|error| error.to_string())?;
    println!("{}", board.lines().join("\n"));
    println!("the report: {}", folder.join("report.json").display());
    Ok(board.broken())
}
