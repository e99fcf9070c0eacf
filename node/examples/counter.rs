//! A durable counter in one file: `cargo run --example counter`, twice.

use ghostlight::prelude::*;

#[derive(Default, Serialize, Deserialize)]
struct Counter {
    total: i64,
}

#[derive(Debug, Serialize, Deserialize, thiserror::Error)]
#[error("the counter is full")]
struct Overflow;

#[actor(name = "counter")]
impl Counter {
    fn add(&mut self, by: i64) -> Result<i64, Overflow> {
        self.total = self.total.checked_add(by).ok_or(Overflow)?;
        Ok(self.total)
    }

    #[read]
    fn get(&self) -> i64 {
        self.total
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let dir = std::env::temp_dir().join("ghostlight-counter");
    let node = Node::builder()
        .actor::<Counter>()
        .data_dir(dir)
        .start()
        .await?;
    let total = node.actor::<Counter>("home").add(1).await?;
    println!("this counter has been raised {total} times");
    node.shutdown().await?;
    Ok(())
}
