//! A bank with Dapr's Rust SDK: one actor type, state, a reminder. Run it beside a Ghostlight node,
//! see README.md.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use dapr::server::DaprHttpServer;
use dapr::server::actor::axum::Json;
use dapr::server::actor::context_client::{ActorContextClient, ActorStateOperation};
use dapr::server::actor::runtime::ActorTypeRegistration;
use dapr::server::actor::{Actor, ActorError};
use dapr::server::utils::DaprJson;
use dapr_macros::actor;
use serde::{Deserialize, Serialize};

#[derive(Deserialize)]
struct Amount {
    amount: i64,
}

#[derive(Serialize)]
struct Balance {
    balance: i64,
    pid: u32,
}

impl Balance {
    fn of(balance: i64) -> Json<Self> {
        Json(Self {
            balance,
            pid: std::process::id(),
        })
    }
}

#[actor]
struct Account {
    context: ActorContextClient,
}

fn failed(error: impl Into<Box<dyn Error>>) -> ActorError {
    ActorError::MethodError(error.into())
}

impl Account {
    async fn balance_now(&self) -> Result<i64, ActorError> {
        let stored = self
            .context
            .clone()
            .get_actor_state("balance")
            .await
            .map_err(failed)?;
        if stored.data.is_empty() {
            return Ok(0);
        }
        serde_json::from_slice(&stored.data).map_err(failed)
    }

    /// The SDK keeps no state in memory: what is set is staged at the node until the method
    /// answers.
    async fn set(&self, balance: i64) -> Result<i64, ActorError> {
        let value = Some(balance.to_string().into_bytes());
        let upsert = ActorStateOperation::Upsert {
            key: "balance".to_owned(),
            value,
        };
        self.context
            .clone()
            .execute_actor_state_transaction(vec![upsert])
            .await
            .map_err(failed)?;
        Ok(balance)
    }

    async fn add(&self, amount: i64) -> Result<i64, ActorError> {
        let balance = self.balance_now().await? + amount;
        self.set(balance).await
    }

    async fn deposit(&self, DaprJson(data): DaprJson<Amount>) -> Result<Json<Balance>, ActorError> {
        self.add(data.amount).await.map(Balance::of)
    }

    /// Looks first and takes afterwards: what was staged would count, whatever the method answers.
    async fn withdraw(
        &self,
        DaprJson(data): DaprJson<Amount>,
    ) -> Result<Json<Balance>, ActorError> {
        let balance = self.balance_now().await? - data.amount;
        if balance < 0 {
            return Err(failed(format!("{} missing", -balance)));
        }
        self.set(balance).await.map(Balance::of)
    }

    async fn balance(&self) -> Result<Json<Balance>, ActorError> {
        self.balance_now().await.map(Balance::of)
    }

    /// One unit each second, from now on, whichever process has the account by then.
    async fn pay_interest(&self) -> Result<Json<()>, ActorError> {
        let second = Some(Duration::from_secs(1));
        let mut context = self.context.clone();
        context
            .register_actor_reminder("interest", second, second, Vec::new(), None, None, None)
            .await
            .map_err(failed)?;
        Ok(Json(()))
    }
}

#[async_trait]
impl Actor for Account {
    async fn on_activate(&self) -> Result<(), ActorError> {
        Ok(())
    }

    async fn on_deactivate(&self) -> Result<(), ActorError> {
        Ok(())
    }

    async fn on_reminder(&self, _name: &str, _data: Vec<u8>) -> Result<(), ActorError> {
        self.add(1).await.map(|_| ())
    }

    async fn on_timer(&self, _name: &str, _data: Vec<u8>) -> Result<(), ActorError> {
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let port = std::env::args().nth(1).ok_or("usage: bank PORT")?.parse()?;
    let mut server = DaprHttpServer::new().await;
    let account = ActorTypeRegistration::new::<Account>(
        "Account",
        Box::new(|_type, _id, context| Arc::new(Account { context })),
    );
    let account = account
        .register_method("Deposit", Account::deposit)
        .register_method("Withdraw", Account::withdraw)
        .register_method("Balance", Account::balance)
        .register_method("PayInterest", Account::pay_interest);
    server.register_actor(account).await;
    server.start(Some(port)).await
}
