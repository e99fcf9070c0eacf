//! A topic is deleted: groups with their letters, then events, log by log.

use futures::future::join_all;
use ghostlight_protocol::code::Code;
use ghostlight_protocol::topic::{
    DescribeReply, Nothing, Reply, Request, TopicName, TopicPartition,
};

use super::{Refusal, WAIT_MAX, subscription_views};
use crate::handle::NodeHandle;

impl NodeHandle {
    /// Deletes a topic for good: its groups with their letters, then its events. Nobody may
    /// subscribe to it. Published to again it is there again, and its offsets go on. Gives how many
    /// of its logs were there.
    ///
    /// # Errors
    /// The topic does not exist, somebody subscribes to it, or a leader did not answer: some of it
    /// may be gone.
    pub async fn delete_topic(&self, name: &TopicName) -> Result<usize, Refusal> {
        let found = self.describe_topic(name).await?;
        let logs = found.len();
        let views = subscription_views(found);
        if let Some(used) = views.iter().find(|view| view.subscribers > 0) {
            return Err(Refusal {
                code: Code::InvalidArgument,
                detail: format!(
                    "{name} has subscribers, in group {:?}: stop them, then delete it",
                    used.group
                ),
            });
        }
        for view in views {
            self.delete_group(name, &view.group).await?;
        }
        let logs_deleted = name.partitions().map(|place| self.delete_events(place));
        for deleted in join_all(logs_deleted).await {
            deleted?;
        }
        Ok(logs)
    }

    async fn delete_events(&self, place: TopicPartition) -> Result<(), Refusal> {
        loop {
            let request = Request::DeleteEvents(Nothing {});
            let reply = self.topic_call(place.key(), request, None, Some(WAIT_MAX));
            let Reply::Described(DescribeReply { row: Some(row), .. }) = reply.await? else {
                return Ok(());
            };
            if row.first == row.next {
                return Ok(());
            }
        }
    }
}
