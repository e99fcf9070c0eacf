//! The metadata of `pubsub.mqtt3`, with the defaults of Dapr's code.

use rumqttc::QoS;
use url::Url;

use crate::settings::{Settings, plain};
use crate::tls::ClientCertificate;

/// See the module.
pub(crate) struct Options {
    /// This process.
    pub(super) instance: String,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) login: Option<(String, String)>,
    pub(super) tls: Tls,
    pub(super) qos: QoS,
    pub(super) retain: Retain,
    pub(super) session: Keep,
    pub(super) leaving: Leaving,
}

/// Whether the connection is encrypted.
pub(super) enum Tls {
    Off,
    On {
        /// `None`: the machine's roots.
        authority: Option<String>,
        client: Option<ClientCertificate>,
    },
}

/// Whether the broker keeps the last event of a topic for those who come later.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Retain {
    /// Where a publish asks for it.
    Asked,
    Always,
}

/// What the broker keeps for a group while nobody of it is connected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Keep {
    Events,
    Nothing,
}

/// What a group does when its subscriber leaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Leaving {
    StaysSubscribed,
    Unsubscribes,
}

impl Options {
    /// # Errors
    /// A field cannot be read.
    pub(super) fn read(instance: &str, settings: &mut Settings) -> Result<Self, String> {
        let (url, tls) = address(&settings.needed("url")?, settings)?;
        let login = match url.username() {
            "" => None,
            name => Some((login(name)?, login(url.password().unwrap_or_default())?)),
        };
        let qos = match settings.number("qos")? {
            Some(0) => {
                settings.warn("qos is 0: events are lost without notice, by either side");
                QoS::AtMostOnce
            }
            None | Some(1) => QoS::AtLeastOnce,
            Some(2) => QoS::ExactlyOnce,
            Some(other) => return Err(format!("qos is {other}. Write 0, 1 or 2")),
        };
        let session = match settings.truth("cleanSession")?.unwrap_or(false) {
            true => {
                settings.warn(
                    "cleanSession is true: what is published while no subscriber is connected is lost to its group",
                );
                Keep::Nothing
            }
            false => Keep::Events,
        };
        let leaving = match settings.truth("unsubscribeOnClose")?.unwrap_or(false) {
            true => {
                settings.warn(
                    "unsubscribeOnClose is true: what is published after the last subscriber has left is lost to its group",
                );
                Leaving::Unsubscribes
            }
            false => Leaving::StaysSubscribed,
        };
        Ok(Self {
            instance: instance.to_owned(),
            host: url.host_str().unwrap_or_default().to_owned(),
            port: url.port().unwrap_or(match tls {
                Tls::Off => 1_883,
                Tls::On { .. } => 8_883,
            }),
            login,
            tls,
            qos,
            retain: match settings.truth("retain")?.unwrap_or(false) {
                true => Retain::Always,
                false => Retain::Asked,
            },
            session,
            leaving,
        })
    }
}

fn address(given: &str, settings: &mut Settings) -> Result<(Url, Tls), String> {
    let hint = "Write such as mqtt://user:password@here:1883";
    let url: Url = given
        .parse()
        .map_err(|error| format!("url cannot be: {error}. {hint}"))?;
    let authority = settings.text("caCert");
    let client = match (settings.text("clientCert"), settings.text("clientKey")) {
        (None, None) => None,
        (Some(certificate), Some(key)) => Some(ClientCertificate { certificate, key }),
        _ => return Err("write both clientCert and clientKey, or none of them".to_owned()),
    };
    let tls = match url.scheme() {
        "mqtts" | "ssl" | "tls" | "tcps" => Tls::On { authority, client },
        "mqtt" | "tcp" if authority.is_none() && client.is_none() => Tls::Off,
        "mqtt" | "tcp" => {
            return Err("url has no TLS, and there are certificates. Write mqtts://".to_owned());
        }
        other => {
            return Err(format!(
                "url begins with {other}://, which is not supported. {hint}"
            ));
        }
    };
    match url.host_str() {
        None | Some("") => Err(format!("url names no host. {hint}")),
        Some(_) => Ok((url, tls)),
    }
}

fn login(encoded: &str) -> Result<String, String> {
    plain(encoded).map_err(|why| format!("the login in url {why}"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn read(pairs: &[(&str, &str)]) -> (Result<Options, String>, Vec<String>) {
        let owned = pairs
            .iter()
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()));
        let metadata: BTreeMap<_, _> = owned.collect();
        let mut settings = Settings::new(&metadata);
        let options = Options::read("n1", &mut settings);
        (options, settings.into_warnings())
    }

    #[test]
    fn defaults_are_those_of_daprs_code() {
        let (options, warnings) = read(&[("url", "mqtt://here")]);
        let options = options.unwrap_or_else(|why| panic!("{why}"));
        assert_eq!(warnings, Vec::<String>::new());
        assert_eq!((options.host.as_str(), options.port), ("here", 1_883));
        assert_eq!(options.qos, QoS::AtLeastOnce);
        assert_eq!(options.retain, Retain::Asked);
        assert_eq!(options.session, Keep::Events);
        assert_eq!(options.leaving, Leaving::StaysSubscribed);
        assert!(options.login.is_none() && matches!(options.tls, Tls::Off));
    }

    #[test]
    fn addresses() {
        let (options, _) = read(&[("url", "ssl://me:p%40ss@here:7")]);
        let options = options.unwrap_or_else(|why| panic!("{why}"));
        assert_eq!(options.login, Some(("me".to_owned(), "p@ss".to_owned())));
        assert!(matches!(options.tls, Tls::On { .. }) && options.port == 7);
        let (options, _) = read(&[("url", "mqtts://here")]);
        assert_eq!(options.map(|options| options.port).ok(), Some(8_883));
    }

    #[test]
    fn what_cannot_be_is_said_and_what_loses_events_is_told() {
        for (field, value) in [
            ("url", "here"),
            ("url", "ws://here"),
            ("qos", "3"),
            ("cleanSession", "perhaps"),
            ("clientCert", "-----BEGIN"),
            ("caCert", "-----BEGIN"),
        ] {
            let mut pairs = vec![("url", "tcp://here:1"), (field, value)];
            pairs.dedup_by_key(|(name, _)| *name);
            if field == "url" {
                pairs = vec![(field, value)];
            }
            let why = read(&pairs).0.err().unwrap_or_default();
            assert!(
                why.contains(field) || why.starts_with("url"),
                "{field}: {why}"
            );
        }
        assert!(read(&[]).0.is_err());
        for (field, value) in [
            ("qos", "0"),
            ("cleanSession", "true"),
            ("unsubscribeOnClose", "true"),
        ] {
            let (options, warnings) = read(&[("url", "tcp://here:1"), (field, value)]);
            assert!(options.is_ok());
            assert!(warnings[0].contains(field), "{field}: {warnings:?}");
        }
    }
}
