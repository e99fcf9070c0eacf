//! Dapr's form of a log line, which tools match: `time="…" level=info msg="…" app_id=shop …`, or
//! JSON, on stdout.

use std::fmt::{self, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use ghostlight_protocol::calendar::rfc3339;
use ghostlight_protocol::time::WallTime;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::options::LogForm;
use crate::api::sidecar::DAPR_VERSION;

/// Writes lines of one application.
pub(super) struct Lines {
    pub(super) app_id: String,
    pub(super) instance: String,
    pub(super) form: LogForm,
}

/// The message of an event, with its fields behind it.
#[derive(Default)]
struct Message {
    text: String,
    fields: String,
}

impl Visit for Message {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let written = match field.name() {
            "message" => write!(self.text, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
        written.expect("a String takes every write");
    }
}

impl Lines {
    /// One line, without its end.
    fn line(&self, time: WallTime, level: Level, scope: &str, message: &str) -> String {
        let level = match level {
            Level::ERROR => "error",
            Level::WARN => "warning",
            Level::INFO => "info",
            Level::DEBUG | Level::TRACE => "debug",
        };
        let time = rfc3339(time);
        match self.form {
            LogForm::Text => format!(
                "time={time:?} level={level} msg={} app_id={} instance={} scope={scope} type=log ver={DAPR_VERSION}",
                quoted(message),
                bare(&self.app_id),
                bare(&self.instance),
            ),
            LogForm::Json => serde_json::json!({
                "app_id": self.app_id, "instance": self.instance, "level": level, "msg": message,
                "scope": scope, "time": time, "type": "log", "ver": DAPR_VERSION,
            })
            .to_string(),
        }
    }
}

/// Quoted as logfmt wants it: always, because messages have spaces.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Without quotes where none are needed.
fn bare(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._/@^+".contains(c);
    match !text.is_empty() && text.chars().all(plain) {
        true => text.to_owned(),
        false => quoted(text),
    }
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut message = Message::default();
        event.record(&mut message);
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(0));
        let level = *event.metadata().level();
        // The scope of Dapr's own start lines; tools read them.
        let scope = event.metadata().target().replace("::", ".");
        let scope = match scope.strip_prefix("ghostlight.cli") {
            Some(_) => "dapr.runtime",
            None => scope.as_str(),
        };
        let text = message.text + &message.fields;
        writeln!(writer, "{}", self.line(WallTime(now), level, scope, &text))
    }
}

/// Sets up the log of this process.
pub(super) fn start(lines: Lines, level: &str) {
    let filter = tracing_subscriber::EnvFilter::new(level);
    let installed = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .event_format(lines)
        .with_writer(std::io::stdout)
        .try_init();
    if let Err(error) = installed {
        eprintln!("the log was set up already: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_daprs_form() {
        let lines = |app_id: &str, form| Lines {
            app_id: app_id.to_owned(),
            instance: "host-1".to_owned(),
            form,
        };
        let time = WallTime(1_772_366_400_250);
        let text = lines("shop", LogForm::Text);
        assert_eq!(
            text.line(
                time,
                Level::INFO,
                "dapr.runtime",
                "it says \"yes\"\nand goes on"
            ),
            "time=\"2026-03-01T12:00:00.25Z\" level=info msg=\"it says \\\"yes\\\"\\nand goes on\" app_id=shop \
             instance=host-1 scope=dapr.runtime type=log ver=1.18.3"
        );
        let odd = lines("two words", LogForm::Text);
        let line = odd.line(time, Level::WARN, "s", "m");
        assert!(
            line.contains("level=warning") && line.contains("app_id=\"two words\""),
            "{line}"
        );
        let json = lines("shop", LogForm::Json);
        let line = json.line(time, Level::ERROR, "s", "m");
        let read: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(read["msg"], "m");
        assert_eq!(
            (&read["level"], &read["ver"]),
            (&"error".into(), &"1.18.3".into())
        );
    }
}
