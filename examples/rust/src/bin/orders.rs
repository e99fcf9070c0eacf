//! An order pipeline with Dapr's Rust SDK: topics, competing workers, a dead letter. See README.md.
//!
//! `orders work PORT` has the two steps of an order, payment and shipping; as many of them as there
//! are share the work. `orders place FIRST LAST` is the order service. Each event is named after
//! its order: published again, it is the same one.

use std::collections::HashMap;
use std::error::Error;
use std::time::Duration;

use dapr::appcallback::*;
use dapr::dapr::proto::runtime::v1::app_callback_server::{AppCallback, AppCallbackServer};
use dapr::dapr::proto::runtime::v1::topic_event_response::TopicEventResponseStatus;
use serde::{Deserialize, Serialize};
use tonic::{Request, Response, Status};

type Client = dapr::Client<dapr::client::TonicClientWithAuth>;

#[derive(Serialize, Deserialize)]
struct Order {
    id: String,
    amount: u64,
    address: String,
    #[serde(default)]
    paid: bool,
}

async fn publish(
    client: &Client,
    topic: &str,
    order: &Order,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let name = HashMap::from([
        ("cloudevent.id".to_owned(), format!("{topic}-{}", order.id)),
        ("partitionKey".to_owned(), order.id.clone()),
    ]);
    let data = serde_json::to_vec(order)?;
    client
        .clone()
        .publish_event("pubsub", topic, "application/json", data, Some(name))
        .await?;
    Ok(())
}

struct Workers {
    client: Client,
}

impl Workers {
    async fn pay(&self, order: Order) -> Result<(), Box<dyn Error + Send + Sync>> {
        publish(
            &self.client,
            "payments",
            &Order {
                paid: true,
                ..order
            },
        )
        .await
    }

    /// An order without an address fails each time, and becomes a dead letter.
    async fn ship(&self, order: Order) -> Result<(), Box<dyn Error + Send + Sync>> {
        if order.address.is_empty() {
            return Err(format!("{} has no address", order.id).into());
        }
        publish(&self.client, "shipped", &order).await
    }
}

/// What the node asks of an application over gRPC.
#[tonic::async_trait]
impl AppCallback for Workers {
    async fn list_topic_subscriptions(
        &self,
        _: Request<()>,
    ) -> Result<Response<ListTopicSubscriptionsResponse>, Status> {
        let orders = TopicSubscription::new("pubsub".to_owned(), "orders".to_owned(), None);
        let three = HashMap::from([("maxDeliver".to_owned(), "3".to_owned())]);
        let payments = TopicSubscription {
            dead_letter_topic: "rejected".to_owned(),
            ..TopicSubscription::new("pubsub".to_owned(), "payments".to_owned(), Some(three))
        };
        Ok(Response::new(ListTopicSubscriptionsResponse {
            subscriptions: vec![orders, payments],
        }))
    }

    async fn on_topic_event(
        &self,
        request: Request<TopicEventRequest>,
    ) -> Result<Response<TopicEventResponse>, Status> {
        let event = request.into_inner();
        let order =
            serde_json::from_slice(&event.data).map_err(|e| Status::internal(e.to_string()))?;
        let done = match event.topic.as_str() {
            "orders" => self.pay(order).await,
            _ => self.ship(order).await,
        };
        let status = match done {
            Ok(()) => TopicEventResponseStatus::Success,
            Err(error) => {
                println!("{error}");
                TopicEventResponseStatus::Retry
            }
        };
        Ok(Response::new(TopicEventResponse {
            status: status.into(),
        }))
    }

    async fn on_invoke(
        &self,
        _: Request<InvokeRequest>,
    ) -> Result<Response<InvokeResponse>, Status> {
        Err(Status::unimplemented("no methods"))
    }

    async fn list_input_bindings(
        &self,
        _: Request<()>,
    ) -> Result<Response<ListInputBindingsResponse>, Status> {
        Ok(Response::new(ListInputBindingsResponse::default()))
    }

    async fn on_binding_event(
        &self,
        _: Request<BindingEventRequest>,
    ) -> Result<Response<BindingEventResponse>, Status> {
        Err(Status::unimplemented("no bindings"))
    }

    async fn on_bulk_topic_event(
        &self,
        _: Request<TopicEventBulkRequest>,
    ) -> Result<Response<TopicEventBulkResponse>, Status> {
        Err(Status::unimplemented("no batches"))
    }

    async fn on_job_event(
        &self,
        _: Request<JobEventRequest>,
    ) -> Result<Response<JobEventResponse>, Status> {
        Err(Status::unimplemented("no jobs"))
    }
}

/// Every tenth order has no address. An order that may not have been taken is placed again, under
/// its name.
async fn place(client: &Client, first: u64, last: u64) {
    for n in first..=last {
        let address = if n % 10 == 0 {
            String::new()
        } else {
            format!("{n} Ghost Lane")
        };
        let order = Order {
            id: format!("o{n}"),
            amount: n,
            address,
            paid: false,
        };
        while let Err(error) = publish(client, "orders", &order).await {
            println!("{} once more: {error}", order.id);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    println!("orders {first} to {last} are placed");
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let client = Client::new().await?;
    match arguments.as_slice() {
        ["place", first, last] => place(&client, first.parse()?, last.parse()?).await,
        ["work", port] => {
            let workers = AppCallbackServer::new(Workers { client });
            let address = format!("127.0.0.1:{port}").parse()?;
            tonic::transport::Server::builder()
                .add_service(workers)
                .serve(address)
                .await?;
        }
        _ => return Err("usage: orders work PORT | orders place FIRST LAST".into()),
    }
    Ok(())
}
