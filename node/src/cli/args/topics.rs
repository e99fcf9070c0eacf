//! What can be typed about topics, their groups and their dead letters.

use clap::Subcommand;
use ghostlight_protocol::limits::TOPIC_PARTITIONS;

use super::{LetterRef, Output};

/// The component that exists without being named.
pub(in crate::cli) const PUBSUB_DEFAULT: &str = "pubsub";

/// `topics`.
#[derive(clap::Args, Clone, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Topics {
    /// One topic
    #[arg(value_name = "TOPIC")]
    pub topic: Option<String>,
    /// Pub/sub component [default: all in lists, pubsub for one topic]
    #[arg(long, value_name = "NAME")]
    pub pubsub: Option<String>,
    /// How it is printed.
    #[command(flatten)]
    pub output: Output,
    /// What to do to one topic.
    #[command(subcommand)]
    pub action: Option<TopicsDo>,
}

/// What is done to a topic.
#[derive(Subcommand, Clone, Debug)]
pub enum TopicsDo {
    /// Delete a topic for good, with its events, groups and dead letters; its subscribers must have
    /// gone
    Delete(DeleteTopic),
}

/// `topics delete`.
#[derive(clap::Args, Clone, Debug)]
pub struct DeleteTopic {
    /// The topic
    #[arg(value_name = "TOPIC")]
    pub topic: String,
    /// Pub/sub component
    #[arg(long, value_name = "NAME", default_value = PUBSUB_DEFAULT)]
    pub pubsub: String,
    /// Whether it is meant.
    #[command(flatten)]
    pub sure: Sure,
}

/// The number of one of a topic's logs.
fn log_number(text: &str) -> Result<u16, String> {
    let number = text.parse().ok().filter(|n| *n < TOPIC_PARTITIONS);
    number.ok_or_else(|| {
        format!(
            "there is no log {text}: a topic's logs are 0 to {}",
            TOPIC_PARTITIONS - 1
        )
    })
}

/// `subscriptions`.
#[derive(clap::Args, Clone, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Subscriptions {
    /// Groups of one topic
    #[arg(value_name = "TOPIC")]
    pub topic: Option<String>,
    /// Pub/sub component [default: all in lists, pubsub for one topic]
    #[arg(long, value_name = "NAME")]
    pub pubsub: Option<String>,
    /// How it is printed.
    #[command(flatten)]
    pub output: Output,
    /// What to do to one group.
    #[command(subcommand)]
    pub action: Option<SubscriptionsDo>,
}

/// What is done to a group.
#[derive(Subcommand, Clone, Debug)]
pub enum SubscriptionsDo {
    /// Deliver nothing to a group until it is resumed
    Pause(GroupRef),
    /// Deliver to a group again
    Resume(GroupRef),
    /// Move a group: what it holds is void, and it goes on from there
    Seek(SeekGroup),
    /// Forget a group for good, with its cursors and dead letters; its subscribers must have gone
    Delete(DeleteGroup),
}

/// `subscriptions delete`.
#[derive(clap::Args, Clone, Debug)]
pub struct DeleteGroup {
    /// Which.
    #[command(flatten)]
    pub group: GroupRef,
    /// Whether it is meant.
    #[command(flatten)]
    pub sure: Sure,
}

/// Of what nothing brings back.
#[derive(clap::Args, Clone, Copy, Debug)]
pub struct Sure {
    /// Really delete it: nothing brings it back
    #[arg(long)]
    pub yes: bool,
}

/// One group of subscribers.
#[derive(clap::Args, Clone, Debug)]
pub struct GroupRef {
    /// The topic
    #[arg(value_name = "TOPIC")]
    pub topic: String,
    /// The group
    #[arg(value_name = "GROUP")]
    pub group: String,
    /// Pub/sub component
    #[arg(long, value_name = "NAME", default_value = PUBSUB_DEFAULT)]
    pub pubsub: String,
}

/// `subscriptions seek`.
#[derive(clap::Args, Clone, Debug)]
pub struct SeekGroup {
    /// Which.
    #[command(flatten)]
    pub group: GroupRef,
    /// Where to: first, last, a time, how long ago, or an offset with --partition
    #[arg(value_name = "first|last|TIME|OFFSET")]
    pub to: String,
    /// The log that an offset is of, 0 to 7
    #[arg(long, value_name = "N", value_parser = log_number)]
    pub partition: Option<u16>,
}

/// `dead-letters`.
#[derive(Subcommand, Clone, Debug)]
pub enum DeadLetters {
    /// List the parked letters of a group
    List {
        /// Whose.
        #[command(flatten)]
        group: GroupRef,
        /// How it is printed.
        #[command(flatten)]
        output: Output,
    },
    /// Show one letter with its data
    Show {
        /// Whose.
        #[command(flatten)]
        group: GroupRef,
        /// The letter
        #[arg(value_name = "N/OFFSET")]
        letter: LetterRef,
        /// How it is printed.
        #[command(flatten)]
        output: Output,
    },
    /// Deliver letters to their group again
    Redrive(Redrive),
}

/// `dead-letters redrive`.
#[derive(clap::Args, Clone, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "flags of a command line are bools"
)]
pub struct Redrive {
    /// Whose.
    #[command(flatten)]
    pub group: GroupRef,
    /// Letters, as the list shows them
    #[arg(value_name = "N/OFFSET")]
    pub letters: Vec<LetterRef>,
    /// All of them
    #[arg(long, conflicts_with = "letters")]
    pub all: bool,
    /// Throw them away instead
    #[arg(long)]
    pub discard: bool,
}

/// `publish`.
#[expect(
    clippy::struct_excessive_bools,
    reason = "flags, as the command line has them"
)]
#[derive(clap::Args, Clone, Debug)]
pub struct Publish {
    /// The topic
    #[arg(value_name = "TOPIC")]
    pub topic: String,
    /// The data: a text, @FILE, or - for stdin
    #[arg(
        short,
        long,
        value_name = "TEXT|@FILE|-",
        allow_hyphen_values = true,
        required = true
    )]
    pub data: Option<String>,
    /// Events with the same key keep their order
    #[arg(long, value_name = "KEY")]
    pub key: Option<String>,
    /// Media type of the data [default: application/json if it is JSON, else text/plain]
    #[arg(long, value_name = "TYPE")]
    pub content_type: Option<String>,
    /// Id of the event [default: a random one]; published again with the same id and key it is
    /// appended once, and to an ephemeral topic it is sent again
    #[arg(long, value_name = "ID")]
    pub id: Option<String>,
    /// Publish the data alone, without the envelope that applications expect
    #[arg(long)]
    pub raw: bool,
    /// Publish to a component that the node does not know, too
    #[arg(long)]
    pub force: bool,
    /// Send it to whoever listens, and keep it nowhere [default: as the node's component says]
    #[arg(long)]
    pub ephemeral: bool,
    /// The same, and keep it as the topic's last value for who subscribes later
    #[arg(long, conflicts_with = "ephemeral")]
    pub latched: bool,
    /// Pub/sub component
    #[arg(long, value_name = "NAME", default_value = PUBSUB_DEFAULT)]
    pub pubsub: String,
    /// How it is printed.
    #[command(flatten)]
    pub output: Output,
}

/// `subscribe`.
#[expect(
    clippy::struct_excessive_bools,
    reason = "flags, as the command line has them"
)]
#[derive(clap::Args, Clone, Debug)]
pub struct Subscribe {
    /// The topic
    #[arg(value_name = "TOPIC")]
    pub topic: String,
    /// Share the events with all subscribers of this group; none: see all of them [default: none]
    #[arg(long, value_name = "GROUP|none")]
    pub group: Option<String>,
    /// Where a new group begins; one that exists goes on where it stands [default: first; last
    /// without a group]
    #[arg(long, value_name = "first|last|TIME|OFFSET")]
    pub from: Option<String>,
    /// The log that an offset is of, 0 to 7; without a group alone
    #[arg(long, value_name = "N", value_parser = log_number, requires = "from")]
    pub partition: Option<u16>,
    /// End after so many events
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// Print events with their envelopes
    #[arg(long)]
    pub raw: bool,
    /// Subscribe at a component that the node does not know, too
    #[arg(long)]
    pub force: bool,
    /// Listen to an ephemeral topic [default: as the node's component says]
    #[arg(long, conflicts_with_all = ["group", "from", "partition"])]
    pub ephemeral: bool,
    /// Pub/sub component
    #[arg(long, value_name = "NAME", default_value = PUBSUB_DEFAULT)]
    pub pubsub: String,
    /// How it is printed.
    #[command(flatten)]
    pub output: Output,
}

impl Subscribe {
    /// Whether others get what this one does not.
    pub(in crate::cli) fn is_shared(&self) -> bool {
        self.group.as_deref().is_some_and(|group| group != "none")
    }
}
