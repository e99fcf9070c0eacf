//! Connections to Redis.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, IntoConnectionInfo, RedisConnectionInfo,
};

use super::ANSWER_TIME_MAX;
use super::options::{Options, Tls};
use crate::keeper::Dial;

/// How often a connection is asked whether it is one.
const PROBE_PERIOD: Duration = Duration::from_secs(1);

/// See the module.
pub(crate) struct Dialer {
    component: String,
    client: Client,
}

impl Dialer {
    /// # Errors
    /// The address cannot be.
    pub(super) fn new(component: &str, options: &Arc<Options>) -> Result<Self, String> {
        let address = match options.tls {
            Tls::Off => ConnectionAddr::Tcp(options.host.clone(), options.port),
            Tls::On => ConnectionAddr::TcpTls {
                host: options.host.clone(),
                port: options.port,
                insecure: false,
                tls_params: None,
            },
        };
        let mut who = RedisConnectionInfo::default().set_db(options.database);
        if let Some(username) = &options.username {
            who = who.set_username(username);
        }
        if let Some(password) = &options.password {
            who = who.set_password(password);
        }
        let info = address.into_connection_info();
        let client = info.and_then(|info| Client::open(info.set_redis_settings(who)));
        Ok(Self {
            component: component.to_owned(),
            client: client.map_err(|error| format!("the address of Redis cannot be: {error}"))?,
        })
    }

    /// A connection of its own, for commands that wait at the server for up to `waiting`.
    pub(super) async fn apart(&self, waiting: Duration) -> Result<MultiplexedConnection, String> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(ANSWER_TIME_MAX))
            .set_response_timeout(Some(ANSWER_TIME_MAX + waiting));
        let made = self
            .client
            .get_multiplexed_async_connection_with_config(&config);
        made.await.map_err(|error| error.to_string())
    }

    /// Says what a loss of power may cost.
    async fn check_durability(&self, connection: &MultiplexedConnection) {
        let mut connection = connection.clone();
        let mut settings = Vec::new();
        for name in ["appendonly", "appendfsync"] {
            let mut asking = redis::cmd("CONFIG");
            asking.arg("GET").arg(name);
            // A server that hides its configuration says nothing about it.
            let said: Result<(String, String), _> = asking.query_async(&mut connection).await;
            settings.extend(said.map(|(_, value)| value));
        }
        if settings.len() == 2 && settings != ["yes", "always"] {
            tracing::warn!(
                component = self.component,
                appendonly = settings[0],
                appendfsync = settings[1],
                "Redis acknowledges events before they are on its disk: a crash of it can lose them. Set \
                 appendonly yes and appendfsync always"
            );
        }
    }
}

impl Dial for Dialer {
    type Connection = MultiplexedConnection;

    async fn connect(&self) -> Result<MultiplexedConnection, String> {
        let mut connection = self.apart(Duration::ZERO).await?;
        // A server that is still loading accepts connections, and nothing else.
        let ping: Result<(), _> = redis::cmd("PING").query_async(&mut connection).await;
        ping.map_err(|error| error.to_string())?;
        self.check_durability(&connection).await;
        Ok(connection)
    }

    async fn broken(&self, connection: &MultiplexedConnection) -> String {
        let mut connection = connection.clone();
        loop {
            tokio::time::sleep(PROBE_PERIOD).await;
            let ping: Result<(), _> = redis::cmd("PING").query_async(&mut connection).await;
            if let Err(error) = ping {
                return error.to_string();
            }
        }
    }
}
