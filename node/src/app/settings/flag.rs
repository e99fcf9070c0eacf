//! One application on the command line: `--app bank=3000,protocol=h2c`.
//!
//! Pure. Words that are not given have Dapr's defaults. Tokens are not among them, but files of
//! tokens: they would show in lists of processes.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::str::FromStr;
use std::time::Duration;

use super::{AppAddress, AppSettings, HealthProbes, Protocol};
use crate::app::AppId;
use crate::config::{parse_duration, socket_addr};

/// Longest name of an application.
pub const APP_ID_BYTES_MAX: usize = 256;

/// Why it cannot be read: what is wrong, and what to write.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("--app {given}: {why}. Write --app ID=PORT, and behind it, with commas, any of {WORDS}")]
pub struct AppFlagError {
    given: String,
    why: String,
}

const WORDS: &str = "protocol=http|https|h2c|grpc|grpcs, host=NAME, max-concurrency=N, \
    health=PATH, health-interval=TIME, health-timeout=TIME, health-threshold=N, \
    http=ADDR, grpc=ADDR, api-token-file=PATH, app-token-file=PATH";

impl FromStr for AppSettings {
    type Err = AppFlagError;

    fn from_str(given: &str) -> Result<Self, AppFlagError> {
        parse(given).map_err(|why| AppFlagError {
            given: ghostlight_protocol::text::cut(given.to_owned()),
            why,
        })
    }
}

fn parse(given: &str) -> Result<AppSettings, String> {
    let mut words = given.split(',');
    let first = words.next().unwrap_or_default();
    let (id, port) = first
        .split_once('=')
        .ok_or_else(|| format!("{first:?} has no port"))?;
    let bad_id = id.is_empty() || id.len() > APP_ID_BYTES_MAX || id.contains(char::is_control);
    if bad_id {
        return Err(format!(
            "{id:?} is no name of 1 to {APP_ID_BYTES_MAX} bytes"
        ));
    }
    let port: u16 = match port {
        // It comes by stream alone.
        "" | "-1" => 0,
        port => port
            .parse()
            .map_err(|_| format!("{port:?} is not a port"))?,
    };
    let host = "127.0.0.1".to_owned();
    let address = (port != 0).then_some(AppAddress { host, port });
    let mut settings = AppSettings::new(AppId::new(id), address);
    for word in words {
        let (name, value) = word
            .split_once('=')
            .ok_or_else(|| format!("{word:?} has no value"))?;
        take(&mut settings, name, value)?;
    }
    if settings.address.is_none() {
        // Without a port it is one that comes to the node.
        settings.protocol = Protocol::Grpc;
    }
    Ok(settings)
}

fn take(settings: &mut AppSettings, name: &str, value: &str) -> Result<(), String> {
    let wrong = |what: &str| format!("{name}={value} is not {what}");
    let time = || {
        let time = parse_duration(value).filter(|time| *time > Duration::ZERO);
        time.ok_or_else(|| wrong("a time such as 5s"))
    };
    match name {
        "protocol" => {
            settings.protocol = Protocol::parse(value).ok_or_else(|| wrong("a protocol"))?;
        }
        "host" => {
            if let Some(address) = &mut settings.address {
                value.clone_into(&mut address.host);
            }
        }
        "max-concurrency" => {
            // Dapr's word for no limit is -1.
            let limit = value.parse::<i64>().map_err(|_| wrong("a number"))?;
            let limit = usize::try_from(limit).ok();
            settings.concurrency = limit.and_then(NonZeroUsize::new);
        }
        "health" => value.clone_into(&mut probes(settings).path),
        "health-interval" => probes(settings).interval = time()?,
        "health-timeout" => probes(settings).timeout = time()?,
        "health-threshold" => {
            let threshold = value.parse().ok().filter(|count| *count > 0);
            probes(settings).threshold = threshold.ok_or_else(|| wrong("a number from 1"))?;
        }
        "http" => settings.door.http = Some(listen_at(value)?),
        "grpc" => settings.door.grpc = Some(listen_at(value)?),
        "api-token-file" => settings.door.token_file = Some(value.into()),
        "app-token-file" => settings.door.app_token_file = Some(value.into()),
        _ => return Err(format!("{name:?} is unknown")),
    }
    Ok(())
}

/// `ip:port`, `:port` or `port`; port 0, or none: any free one.
fn listen_at(value: &str) -> Result<SocketAddr, String> {
    socket_addr("it", value, 0).map_err(|error| error.to_string())
}

/// Any word about health switches the probes on.
fn probes(settings: &mut AppSettings) -> &mut HealthProbes {
    settings.health.get_or_insert_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> AppSettings {
        text.parse().unwrap()
    }

    #[test]
    fn what_can_be_given() {
        let plain = parsed("bank=3000");
        assert_eq!(plain.id.as_str(), "bank");
        assert_eq!(plain.address.unwrap().to_string(), "127.0.0.1:3000");
        assert_eq!(plain.protocol, Protocol::Http);
        assert!(plain.health.is_none() && plain.concurrency.is_none());

        let text = "a-b.c=80,protocol=h2c,host=::1,max-concurrency=7,health=/ready,\
                    health-interval=1s,health-timeout=20ms,health-threshold=9";
        let settings = parsed(text);
        assert_eq!(settings.address.unwrap().to_string(), "[::1]:80");
        assert_eq!(settings.protocol, Protocol::H2c);
        assert_eq!(settings.concurrency.unwrap().get(), 7);
        let health = HealthProbes {
            path: "/ready".to_owned(),
            interval: Duration::from_secs(1),
            timeout: Duration::from_millis(20),
            threshold: 9,
        };
        assert_eq!(settings.health, Some(health));

        let own =
            parsed("shop=80,http=:3600,grpc=127.0.0.2,api-token-file=t,app-token-file=u").door;
        assert_eq!(own.http.unwrap().to_string(), "127.0.0.1:3600");
        assert_eq!(own.grpc.unwrap().to_string(), "127.0.0.2:0");
        let files = (own.token_file.unwrap(), own.app_token_file.unwrap());
        assert_eq!(files, ("t".into(), "u".into()));

        for comes in ["bank=", "bank=0", "bank=-1"] {
            let settings = parsed(comes);
            assert!(settings.address.is_none() && settings.protocol.is_grpc());
        }
        assert!(parsed("a=1,max-concurrency=-1").concurrency.is_none());
    }

    #[test]
    fn what_cannot() {
        for (wrong, why) in [
            ("", "has no port"),
            ("bank", "has no port"),
            ("=3000", "is no name"),
            ("bank=x", "is not a port"),
            ("bank=70000", "is not a port"),
            ("bank=1,protocol", "has no value"),
            ("bank=1,protocol=ftp", "is not a protocol"),
            ("bank=1,max-concurrency=many", "is not a number"),
            ("bank=1,health-threshold=0", "is not a number from 1"),
            ("bank=1,health-interval=0s", "is not a time"),
            ("bank=1,colour=red", "is unknown"),
            ("bank=1,http=here", "is not an address"),
        ] {
            let error = wrong.parse::<AppSettings>().unwrap_err().to_string();
            assert!(
                error.contains(why) && error.contains("ID=PORT"),
                "{wrong}: {error}"
            );
        }
    }
}
