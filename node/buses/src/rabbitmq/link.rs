//! One connection to RabbitMQ and its channel, and the words by which exchanges and queues come
//! about.

use std::sync::Arc;
use std::time::Duration;

use amqprs::FieldValue;
use amqprs::callbacks::ChannelCallback;
use amqprs::channel::{
    Channel, ExchangeDeclareArguments, QueueBindArguments, QueueDeclareArguments,
};
use amqprs::connection::{Connection, OpenConnectionArguments};
use amqprs::error::Error;
use amqprs::security::SecurityCredentials;
use amqprs::tls::TlsAdaptor;
use amqprs::{FieldTable, ShortStr};
use tokio::runtime::Handle;
use tokio_rustls::TlsConnector;

use super::options::{Login, Options, Tls};
use crate::tls;

/// How long the server may take for an answer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);

/// See the module.
pub(super) struct Link {
    /// `None` while it is dropped.
    parts: Option<(Channel, Connection)>,
    runtime: Handle,
}

/// A channel that is good for a few words.
pub(super) struct Apart(Channel);

/// The answer to a request. The client forgets to tell that a channel was closed: silence is an
/// answer too.
///
/// # Errors
/// What the client says.
pub(super) async fn answered<T>(
    asking: impl Future<Output = Result<T, Error>>,
) -> Result<T, String> {
    match tokio::time::timeout(ANSWER_TIME_MAX, asking).await {
        Ok(said) => said.map_err(|error| error.to_string()),
        Err(_) => Err(format!(
            "RabbitMQ did not answer within {ANSWER_TIME_MAX:?}"
        )),
    }
}

impl Link {
    /// Connects; `hears` gets what the server says by itself.
    ///
    /// # Errors
    /// A half sentence.
    pub(super) async fn new<F>(options: &Options, purpose: &str, hears: F) -> Result<Self, String>
    where
        F: ChannelCallback + Send + 'static,
    {
        let connection = answered(Connection::open(&arguments(options, purpose)?)).await?;
        let channel = answered(connection.open_channel(None)).await?;
        answered(channel.register_callback(hears)).await?;
        Ok(Self {
            parts: Some((channel, connection)),
            runtime: Handle::current(),
        })
    }

    /// Whether both are open.
    pub(super) fn is_whole(&self) -> bool {
        let parts = self.parts.as_ref();
        parts.is_some_and(|(channel, connection)| channel.is_open() && connection.is_open())
    }

    pub(super) fn channel(&self) -> &Channel {
        let (channel, _) = self.parts.as_ref().expect("it is taken out by drop alone");
        channel
    }

    /// A second channel.
    ///
    /// # Errors
    /// The connection broke.
    pub(super) async fn apart(&self) -> Result<Apart, String> {
        let (_, connection) = self.parts.as_ref().expect("it is taken out by drop alone");
        Ok(Apart(answered(connection.open_channel(None)).await?))
    }

    /// This channel, for its own words.
    pub(super) fn words(&self) -> Words<'_> {
        Words(self.channel())
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // Its parts say good-bye in tasks of their own.
        let _inside = self.runtime.enter();
        drop(self.parts.take());
    }
}

impl Apart {
    /// See [`Words::declare_exchange`].
    ///
    /// # Errors
    /// The server does not let it be.
    pub(super) async fn declare_exchange(self, exchange: &str, kind: &str) -> Result<(), String> {
        Words(&self.0).declare_exchange(exchange, kind).await?;
        // It has done its work either way.
        drop(answered(self.0.close()).await);
        Ok(())
    }
}

/// Requests on a channel.
pub(super) struct Words<'a>(&'a Channel);

impl Words<'_> {
    /// The exchange of a topic, as Dapr declares it.
    ///
    /// # Errors
    /// The server does not let it be: one of another kind may be there.
    pub(super) async fn declare_exchange(&self, exchange: &str, kind: &str) -> Result<(), String> {
        let mut arguments = ExchangeDeclareArguments::new(exchange, kind);
        arguments.durable(true);
        let declared = answered(self.0.exchange_declare(arguments)).await;
        declared.map_err(|why| format!("the exchange {exchange} ({kind}) cannot be: {why}"))
    }

    /// A queue.
    ///
    /// # Errors
    /// The server does not let it be: one with other settings may be there.
    pub(super) async fn declare_queue(
        &self,
        arguments: QueueDeclareArguments,
    ) -> Result<(), String> {
        let declared = answered(self.0.queue_declare(arguments)).await;
        declared
            .map(drop)
            .map_err(|why| format!("the queue cannot be, or is there with other settings: {why}"))
    }

    /// What goes to an exchange comes to a queue.
    ///
    /// # Errors
    /// The server does not let it be.
    pub(super) async fn bind(&self, queue: &str, exchange: &str, key: &str) -> Result<(), String> {
        answered(
            self.0
                .queue_bind(QueueBindArguments::new(queue, exchange, key)),
        )
        .await
    }
}

/// A table of a few names.
pub(super) fn table<'a>(pairs: impl IntoIterator<Item = (&'a str, FieldValue)>) -> FieldTable {
    let mut table = FieldTable::new();
    for (name, value) in pairs {
        // Names that do not fit are no names.
        if let Ok(name) = ShortStr::try_from(name) {
            table.insert(name, value);
        }
    }
    table
}

fn arguments(options: &Options, purpose: &str) -> Result<OpenConnectionArguments, String> {
    let mut arguments = OpenConnectionArguments::new(&options.host, options.port, "", "");
    // The client takes no heartbeats for missed ones.
    let heartbeat = u16::try_from(options.heartbeat.as_secs())
        .unwrap_or(u16::MAX)
        .max(1);
    arguments
        .virtual_host(&options.vhost)
        .heartbeat(heartbeat)
        .connection_name(&format!("{} {purpose}", options.name))
        .credentials(match &options.login {
            Login::Plain { name, password } => SecurityCredentials::new_plain(name, password),
            Login::External => SecurityCredentials::new_external(),
        });
    if let Tls::On { authority, client } = &options.tls {
        let config = tls::config(authority.as_deref(), client.as_ref())?;
        let connector = TlsConnector::from(Arc::new(config));
        arguments.tls_adaptor(TlsAdaptor::new(connector, options.host.clone()));
    }
    Ok(arguments)
}
