//! Connections to NATS.

use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::Context;
use async_nats::jetstream::context::ContextBuilder;
use async_nats::{Client, ConnectOptions, Event, ServerAddr};
use tokio::sync::watch;

use super::options::{Api, Login, Options};
use super::{ANSWER_TIME_MAX, CONNECT_TIME_MAX, JetStream};
use crate::external::System;
use crate::keeper::Dial;
use crate::tls;

/// How often a connection is asked whether it is one.
const PROBE_PERIOD: Duration = Duration::from_secs(2);

/// See the module.
pub(crate) struct Dialer {
    options: Arc<Options>,
}

/// One connection. Its client would connect again by itself; it is given up instead, so that
/// nothing waits in it for a server that may never come back.
#[derive(Clone)]
pub(crate) struct Line {
    pub(super) context: Context,
    gone: watch::Receiver<bool>,
}

impl Line {
    /// Resolves when the connection is of no use any more.
    pub(super) async fn gone(&self) {
        let mut gone = self.gone.clone();
        // Without a client nobody is connected either.
        drop(gone.wait_for(|gone| *gone).await);
    }

    pub(super) fn client(&self) -> Client {
        self.context.client()
    }
}

impl Dialer {
    pub(super) fn new(options: &Arc<Options>) -> Result<Self, String> {
        let dialer = Self {
            options: Arc::clone(options),
        };
        // What can never connect is found out now.
        dialer.settings()?;
        dialer.addresses()?;
        Ok(dialer)
    }

    fn addresses(&self) -> Result<Vec<ServerAddr>, String> {
        let addresses = self.options.url.split(',');
        let addresses: Result<Vec<ServerAddr>, _> =
            addresses.map(|address| address.trim().parse()).collect();
        addresses
            .map_err(|error| format!("natsURL cannot be: {error}. Write such as nats://here:4222"))
    }

    fn settings(&self) -> Result<ConnectOptions, String> {
        let Options {
            name,
            login,
            client,
            ..
        } = &*self.options;
        let mut settings = ConnectOptions::new()
            .name(name)
            .connection_timeout(CONNECT_TIME_MAX)
            .request_timeout(Some(ANSWER_TIME_MAX))
            .ping_interval(PROBE_PERIOD)
            .max_reconnects(1)
            .tls_client_config(tls::config(None, client.as_ref())?);
        if client.is_some() {
            settings = settings.require_tls(true);
        }
        Ok(match login {
            Login::Url => settings,
            Login::Token(token) => settings.token(token.clone()),
            Login::Jwt { jwt, seed } => {
                let pair = nkeys::KeyPair::from_seed(seed);
                let pair = Arc::new(pair.map_err(|error| format!("seedKey is none: {error}"))?);
                settings.jwt(jwt.clone(), move |nonce| {
                    ready(pair.sign(&nonce).map_err(async_nats::AuthError::new))
                })
            }
        })
    }

    fn context(&self, client: Client) -> Context {
        let api = match &self.options.api {
            Api::Default => "$JS.API".to_owned(),
            Api::Domain(domain) => format!("$JS.{domain}.API"),
            Api::Prefix(prefix) => prefix.clone(),
        };
        ContextBuilder::new()
            .api_prefix(api)
            .timeout(ANSWER_TIME_MAX)
            .ack_timeout(ANSWER_TIME_MAX)
            .max_ack_inflight(JetStream::PUBLISHES_MAX)
            .backpressure_on_inflight(false)
            .build(client)
    }
}

impl Dial for Dialer {
    type Connection = Line;

    async fn connect(&self) -> Result<Line, String> {
        let (ended, gone) = watch::channel(false);
        let settings = self.settings()?.event_callback(move |event| {
            if matches!(
                event,
                Event::Disconnected | Event::Closed | Event::LameDuckMode
            ) {
                ended.send_replace(true);
            }
            ready(())
        });
        let client = settings.connect(self.addresses()?).await;
        let context = self.context(client.map_err(|error| error.to_string())?);
        // A server without JetStream, or one that is not ready for it, is no bus.
        let account = context.query_account().await;
        account.map_err(|error| format!("JetStream does not answer: {error}"))?;
        Ok(Line { context, gone })
    }

    async fn broken(&self, line: &Line) -> String {
        line.gone().await;
        "the connection broke".to_owned()
    }
}
