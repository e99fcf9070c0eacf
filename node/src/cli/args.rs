//! What can be typed: commands, flags, their environment variables, and one example in each help.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

mod letter;
mod topics;

pub(super) use self::letter::LetterRef;
pub(super) use self::topics::*;
use super::version::VERSION;
use crate::config::{Settings, parse_duration};

/// Actors that survive their nodes: one binary, no other system to run.
#[derive(Parser, Debug)]
#[command(
    name = "ghostlight",
    version = VERSION.short(),
    long_version = VERSION.long(),
    after_help = "Begin with:\n  ghostlight demo\n\nExit codes: 0 done, 1 failed, 2 wrong usage, 3 unhealthy or empty."
)]
pub struct Args {
    /// Which node is asked.
    #[command(flatten)]
    pub target: Target,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// How a node is found.
#[derive(clap::Args, Clone, Debug)]
pub struct Target {
    /// Admin address of the node to ask
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "GHOSTLIGHT_NODE",
        default_value = "http://127.0.0.1:7480"
    )]
    pub node: String,
    /// API token of the node, if it asks for one
    #[arg(
        long,
        global = true,
        value_name = "TOKEN",
        env = "DAPR_API_TOKEN",
        hide_env_values = true
    )]
    pub api_token: Option<String>,
}

/// The commands.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Start three nodes on this machine, with load, and watch them survive
    #[command(after_help = "Example:\n  ghostlight demo --chaos --for 1m")]
    Demo(Demo),
    /// Start one node
    #[command(after_help = START_EXAMPLES)]
    Start(Box<Start>),
    /// Play Dapr's sidecar: every flag of daprd; also through a link named daprd
    #[command(
        disable_help_flag = true,
        after_help = "Example:\n  ghostlight daprd --app-id shop --app-port 8000 --dapr-http-port 3501 --dapr-grpc-port 50002 \\\n    --placement-host-address 127.0.0.1:50005"
    )]
    Daprd {
        /// Dapr's flags
        #[arg(
            value_name = "FLAG",
            trailing_var_arg = true,
            allow_hyphen_values = true
        )]
        arguments: Vec<String>,
    },
    /// Play Dapr's placement service: a storage node that introduces sidecars; also through a link
    #[command(
        disable_help_flag = true,
        after_help = "Example:\n  ghostlight placement --port 50005"
    )]
    Placement {
        /// Dapr's flags
        #[arg(
            value_name = "FLAG",
            trailing_var_arg = true,
            allow_hyphen_values = true
        )]
        arguments: Vec<String>,
    },
    /// Show the cluster's health, then one row per node
    #[command(
        after_help = "Example:\n  ghostlight status --exit-when-healthy\n\nExit code 3: some partitions cannot be served."
    )]
    Status(Status),
    /// List the nodes, or describe one
    #[command(after_help = "Example:\n  ghostlight members n2 --json")]
    Members(Members),
    /// List the partitions, or describe one
    #[command(after_help = "Example:\n  ghostlight partitions 17")]
    Partitions(Partitions),
    /// List the activations of the node that is asked, or describe one; or ask about actors of the
    /// whole cluster
    #[command(after_help = ACTORS_EXAMPLES)]
    Actors(Actors),
    /// Show where an actor lives: partition, leader, replicas
    #[command(after_help = "Example:\n  ghostlight where counter/alice --json")]
    Where(Where),
    /// Call an actor and print its reply
    #[command(
        after_help = "Examples:\n  ghostlight invoke counter/alice/add -d 5\n  ghostlight invoke account/bob/transfer -d '{\"to\":\"eve\",\"amount\":5}' --request-id order-17\n  echo '\"hello\"' | ghostlight invoke log/today/append -d -"
    )]
    Invoke(Invoke),
    /// List the topics, describe or delete one
    #[command(
        after_help = "Examples:\n  ghostlight topics orders --json\n  ghostlight topics delete orders --yes\n\nExit code 3: there is none."
    )]
    Topics(Topics),
    /// List the groups of subscribers, with their lag; pause, resume or move one
    #[command(
        after_help = "Examples:\n  ghostlight subscriptions orders\n  ghostlight subscriptions seek orders shop 10m\n\nExit code 3: there is none."
    )]
    Subscriptions(Subscriptions),
    /// List, show or drive again the events that a group could not be given
    #[command(
        after_help = "Examples:\n  ghostlight dead-letters list orders shop\n  ghostlight dead-letters redrive orders shop --all\n\nExit code 3: there is none."
    )]
    DeadLetters {
        /// What to do.
        #[command(subcommand)]
        action: DeadLetters,
    },
    /// Publish one event
    #[command(after_help = "Example:\n  ghostlight publish news -d '{\"id\":7}' --key alice")]
    Publish(Publish),
    /// Print the events of a topic as they come
    #[command(after_help = "Example:\n  ghostlight subscribe news --group audit --from first")]
    Subscribe(Subscribe),
    /// Move leaders and activations away from a node; it stays a member
    #[command(after_help = "Example:\n  ghostlight drain n2\n  ghostlight drain n2 --undo")]
    Drain(Drain),
    /// Move a node's copies away for good, then end it
    #[command(after_help = "Example:\n  ghostlight leave --node http://127.0.0.1:7483")]
    Leave {
        /// The node, by name or id; without it, the node that is asked
        #[arg(value_name = "NODE")]
        member: Option<String>,
    },
    /// Give up a dead node for good: its copies are made elsewhere at once
    #[command(after_help = "Example:\n  ghostlight remove n2")]
    Remove {
        /// The dead node, by name or id
        #[arg(value_name = "NODE")]
        member: String,
    },
    /// Print a new cluster key
    #[command(after_help = "Example:\n  (umask 077; ghostlight keygen > cluster.key)")]
    Keygen,
    /// Explain an error code, or list all of them
    #[command(after_help = "Example:\n  ghostlight explain E0201")]
    Explain {
        /// The code
        #[arg(value_name = "CODE")]
        code: Option<String>,
    },
    /// Print a completion script
    #[command(
        after_help = "Example:\n  ghostlight completions bash > /etc/bash_completion.d/ghostlight"
    )]
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Measure this machine's Ghostlight against bare baselines and its budgets
    #[command(after_help = BENCH_EXAMPLES)]
    Bench(Bench),
    /// Take orders of a bench on stdin
    #[command(hide = true)]
    BenchWorker {
        /// Directory of the bench, so that its janitor knows this process
        directory: PathBuf,
    },
    /// Delete the directory of a demo or a bench when that ends
    #[command(hide = true)]
    Janitor {
        /// The directory
        directory: PathBuf,
    },
}

/// `demo`.
#[derive(clap::Args, Clone, Debug)]
pub struct Demo {
    /// How many nodes
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=9))]
    pub nodes: u8,
    /// Kill a node every 10 to 20 seconds, and start it again
    #[arg(long)]
    pub chaos: bool,
    /// End by itself after this time, with a summary
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    pub limit: Option<Duration>,
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "write a number with a unit, such as 30s or 5m".to_owned())
}

const BENCH_EXAMPLES: &str = "Examples:
  ghostlight bench                                        every row; some minutes
  ghostlight bench --only turn_three_256,turn_cpu --repeat 5
  ghostlight bench dapr                                   applications beside their nodes
  ghostlight bench --json > bench.json

Ratios compare with bare baselines measured in the same run. Leave the machine alone meanwhile.";

/// `bench`.
#[derive(clap::Args, Clone, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "flags of a command line are bools"
)]
pub struct Bench {
    /// Rows about topics alone (redis-server and nats-server are measured beside them if they are
    /// on the path), or about applications and the API that they speak
    #[arg(value_name = "pubsub|dapr", conflicts_with = "only")]
    pub what: Option<BenchPart>,
    /// Measure only these rows
    #[arg(long, value_name = "NAME,NAME", value_delimiter = ',', value_parser = clap::builder::PossibleValuesParser::new(super::bench::names()))]
    pub only: Vec<String>,
    /// Seconds instead of minutes: shows that everything works, its figures mean little
    #[arg(long)]
    pub quick: bool,
    /// Measure everything this often, one after the other, and take medians
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=99))]
    pub repeat: u8,
    /// Where data is written; choose the disk that nodes will use [default: the temporary
    /// directory]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Exit with 1 when a budget is missed
    #[arg(long)]
    pub strict: bool,
    /// How it is printed.
    #[command(flatten)]
    pub output: Output,
}

/// A part of the bench.
#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum BenchPart {
    /// Topics.
    Pubsub,
    /// Applications and the HTTP API.
    Dapr,
}

const START_EXAMPLES: &str = "Examples:
  ghostlight start --data-dir n1                          found a cluster
  ghostlight start --data-dir n2 --join 127.0.0.1:7400    join it
  ghostlight start --data-dir n2                          start again: it remembers its cluster

On loopback a default port that is taken moves to the next free one.
Every flag is also a key of the configuration file; the first of flag, environment, file, default wins.";

/// `start`.
#[derive(clap::Args, Clone, Default, Debug)]
pub struct Start {
    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE", env = "GHOSTLIGHT_CONFIG")]
    pub config: Option<PathBuf>,
    /// How careful to be about where it listens
    #[arg(long, value_name = "dev|prod", env = "GHOSTLIGHT_PROFILE")]
    pub profile: Option<String>,
    /// Name for people [default: last part of the data directory]
    #[arg(long, env = "GHOSTLIGHT_NAME")]
    pub name: Option<String>,
    /// Namespace of the actors [default: default]
    #[arg(long, value_name = "NS", env = "GHOSTLIGHT_NAMESPACE")]
    pub namespace: Option<String>,
    /// Where everything that must survive lives [default: ghostlight-data]
    #[arg(long, value_name = "DIR", env = "GHOSTLIGHT_DATA_DIR")]
    pub data_dir: Option<PathBuf>,
    /// Peer address (UDP) [default: 127.0.0.1:7400]
    #[arg(long, value_name = "ADDR", env = "GHOSTLIGHT_LISTEN")]
    pub listen: Option<String>,
    /// Peer address as others reach it
    #[arg(long, value_name = "ADDR", env = "GHOSTLIGHT_ADVERTISE")]
    pub advertise: Option<String>,
    /// Members to join by; a node with this never founds a cluster
    #[arg(
        long,
        value_name = "ADDR,ADDR",
        env = "GHOSTLIGHT_JOIN",
        value_delimiter = ','
    )]
    pub join: Option<Vec<String>>,
    /// Dapr HTTP API [default: 127.0.0.1:3500]
    #[arg(long, value_name = "ADDR", env = "GHOSTLIGHT_HTTP")]
    pub http: Option<String>,
    /// Dapr gRPC API [default: 127.0.0.1:50001]
    #[arg(long, value_name = "ADDR", env = "GHOSTLIGHT_GRPC")]
    pub grpc: Option<String>,
    /// Admin API and metrics [default: 127.0.0.1:7480]
    #[arg(long, value_name = "ADDR", env = "GHOSTLIGHT_ADMIN")]
    pub admin: Option<String>,
    /// Where Dapr sidecars are introduced to this cluster, or none [default: 127.0.0.1:50005 unless
    /// taken]
    #[arg(long, value_name = "ADDR", env = "GHOSTLIGHT_INTRODUCE")]
    pub introduce: Option<String>,
    /// Failure zone: copies are spread over zones first
    #[arg(long, env = "GHOSTLIGHT_ZONE")]
    pub zone: Option<String>,
    /// Share of the partitions, 0 to 16; 0 is an edge: no data directory, no copies [default: 1]
    #[arg(long, env = "GHOSTLIGHT_WEIGHT")]
    pub weight: Option<u32>,
    /// Refuse writes to partitions with fewer voters [default: 1]
    #[arg(long, value_name = "N", env = "GHOSTLIGHT_MIN_COPIES")]
    pub min_copies: Option<u32>,
    /// File with the cluster key
    #[arg(long, value_name = "FILE", env = "GHOSTLIGHT_CLUSTER_KEY_FILE")]
    pub cluster_key_file: Option<PathBuf>,
    /// File with accepted API tokens, one per line
    #[arg(long, value_name = "FILE", env = "GHOSTLIGHT_API_TOKEN_FILE")]
    pub api_token_file: Option<PathBuf>,
    /// Partitions of a cluster founded by this node, a power of two up to 4096 [default: 256]
    #[arg(long, value_name = "P", env = "GHOSTLIGHT_PARTITIONS")]
    pub partitions: Option<u32>,
    /// Longest time to hand everything over before the end [default: 30s]
    #[arg(long, value_name = "TIME", env = "GHOSTLIGHT_DRAIN_TIMEOUT")]
    pub drain_timeout: Option<String>,
    /// Level or filter [default: info]
    #[arg(long, value_name = "LEVEL", env = "GHOSTLIGHT_LOG_LEVEL")]
    pub log_level: Option<String>,
    /// Form of the log lines [default: text]
    #[arg(long, value_name = "text|json", env = "GHOSTLIGHT_LOG_FORMAT")]
    pub log_format: Option<String>,
    /// Host the sample actors counter, log, account, register, echo and tally
    #[arg(long, env = "GHOSTLIGHT_SAMPLES", num_args = 0..=1, default_missing_value = "true")]
    pub samples: Option<bool>,
    /// Application beside this node: ID=PORT, then words such as protocol=h2c; may be repeated
    #[arg(long, value_name = "ID=PORT[,WORD=VALUE]")]
    pub app: Option<Vec<String>>,
    /// Folder with Dapr's resources (components, subscriptions, resiliency); may be repeated
    #[arg(
        long,
        value_name = "DIR",
        env = "GHOSTLIGHT_RESOURCES_PATH",
        value_delimiter = ','
    )]
    pub resources_path: Option<Vec<PathBuf>>,
    /// Type of pub/sub components, such as pubsub.redis, that Ghostlight serves in place of their
    /// own system
    #[arg(
        long,
        value_name = "TYPE",
        env = "GHOSTLIGHT_BUILTIN",
        value_delimiter = ','
    )]
    pub builtin: Option<Vec<String>>,
    /// End as soon as stdin ends
    #[arg(long, hide = true)]
    pub die_with_parent: bool,
    /// Take orders from stdin, answer on stdout, and end as soon as stdin ends
    #[arg(long, hide = true, conflicts_with = "die_with_parent")]
    pub orders: Option<Orders>,
}

/// What a node does for the program that started it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Orders {
    /// Calls actors as often as it can.
    Load,
}

impl Start {
    /// What flags and environment say about the node.
    #[must_use]
    pub fn settings(self) -> Settings {
        Settings {
            profile: self.profile,
            name: self.name,
            namespace: self.namespace,
            data_dir: self.data_dir,
            listen: self.listen,
            advertise: self.advertise,
            join: self.join,
            http: self.http,
            grpc: self.grpc,
            admin: self.admin,
            introduce: self.introduce,
            zone: self.zone,
            weight: self.weight,
            min_copies: self.min_copies,
            cluster_key_file: self.cluster_key_file,
            api_token_file: self.api_token_file,
            partitions: self.partitions,
            drain_timeout: self.drain_timeout,
            log_level: self.log_level,
            log_format: self.log_format,
            samples: self.samples,
            app: self.app,
            resources_path: self.resources_path,
            builtin: self.builtin,
        }
    }
}

/// How a list is printed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Form {
    /// A table.
    Text,
    /// JSON.
    Json,
}

/// The flag of every list.
#[derive(clap::Args, Clone, Copy, Debug)]
pub struct Output {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Output {
    /// What was asked for.
    #[must_use]
    pub fn form(self) -> Form {
        if self.json { Form::Json } else { Form::Text }
    }
}

/// `status`.
#[derive(clap::Args, Clone, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "flags of a command line are bools"
)]
pub struct Status {
    /// Show it again every second
    #[arg(short, long)]
    pub watch: bool,
    /// Wait until every partition is led and has all its copies
    #[arg(long)]
    pub exit_when_healthy: bool,
    /// How it is printed.
    #[command(flatten)]
    pub output: Output,
}

/// `members`.
#[derive(clap::Args, Clone, Debug)]
pub struct Members {
    /// Name or id of one node
    #[arg(value_name = "NODE")]
    pub member: Option<String>,
    /// How it is printed.
    #[command(flatten)]
    pub output: Output,
}

/// `partitions`.
#[derive(clap::Args, Clone, Debug)]
pub struct Partitions {
    /// Number of one partition
    #[arg(value_name = "P")]
    pub partition: Option<String>,
    /// How it is printed.
    #[command(flatten)]
    pub output: Output,
}

const ACTORS_EXAMPLES: &str = "Examples:
  ghostlight actors counter/alice          its activation on the node that is asked
  ghostlight actors list counter           ids of all actors of a type
  ghostlight actors why counter/alice      where it is, who has the turn, who waits
  ghostlight actors delete counter/alice --yes   with its state, reminders and timers

Exit code 3: there is none.";

/// `actors`.
#[derive(clap::Args, Clone, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Actors {
    /// One actor
    #[arg(value_name = "TYPE/ID")]
    pub actor: Option<String>,
    /// How it is printed.
    #[command(flatten)]
    pub output: Output,
    /// Of the whole cluster.
    #[command(subcommand)]
    pub command: Option<ActorsCommand>,
}

/// `actors COMMAND`.
#[derive(Subcommand, Clone, Debug)]
pub enum ActorsCommand {
    /// List the actor types, and which nodes have their code
    Types {
        /// How it is printed.
        #[command(flatten)]
        output: Output,
    },
    /// List the ids of a type's actors, a page at a time
    List {
        /// The type
        #[arg(value_name = "TYPE")]
        actor_type: String,
        /// Which page.
        #[command(flatten)]
        page: PageArgs,
        /// How it is printed.
        #[command(flatten)]
        output: Output,
    },
    /// Show where an actor is, whose turn it is and who waits
    Why {
        /// The actor
        #[arg(value_name = "TYPE/ID")]
        actor: String,
        /// How it is printed.
        #[command(flatten)]
        output: Output,
    },
    /// List the keys of an actor's state, a page at a time
    Keys {
        /// The actor
        #[arg(value_name = "TYPE/ID")]
        actor: String,
        /// Which page.
        #[command(flatten)]
        page: PageArgs,
        /// How it is printed.
        #[command(flatten)]
        output: Output,
    },
    /// List the reminders of an actor or of a type
    Reminders(Schedules),
    /// List the timers of an actor or of a type
    Timers(Schedules),
    /// Delete an actor with all its state, reminders and timers
    Delete {
        /// The actor
        #[arg(value_name = "TYPE/ID")]
        actor: String,
        /// Whether it is meant.
        #[command(flatten)]
        sure: Sure,
    },
}

/// `actors reminders` and `actors timers`.
#[derive(clap::Args, Clone, Debug)]
pub struct Schedules {
    /// An actor or a type
    #[arg(value_name = "TYPE[/ID]")]
    pub of: String,
    /// Which page, of a type.
    #[command(flatten)]
    pub page: PageArgs,
    /// How it is printed.
    #[command(flatten)]
    pub output: Output,
}

/// Which page of a list.
#[derive(clap::Args, Clone, Debug)]
pub struct PageArgs {
    /// Most items
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    pub limit: u16,
    /// Where it begins: what the page before printed as next
    #[arg(long, value_name = "TOKEN")]
    pub after: Option<String>,
}

/// `where`.
#[derive(clap::Args, Clone, Debug)]
pub struct Where {
    /// The actor
    #[arg(value_name = "TYPE/ID")]
    pub actor: String,
    /// How it is printed.
    #[command(flatten)]
    pub output: Output,
}

/// `invoke`.
#[derive(clap::Args, Clone, Debug)]
pub struct Invoke {
    /// Actor and method; an id may contain slashes, the method is the last part
    #[arg(value_name = "TYPE/ID/METHOD")]
    pub call: String,
    /// The body: a text, @FILE, or - for stdin
    #[arg(short, long, value_name = "TEXT|@FILE|-", allow_hyphen_values = true)]
    pub data: Option<String>,
    /// Repeating a call with the same id gets the recorded reply
    #[arg(long, value_name = "ID")]
    pub request_id: Option<String>,
    /// How long to wait
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    pub timeout: Duration,
}

/// `drain`.
#[derive(clap::Args, Clone, Debug)]
pub struct Drain {
    /// The node, by name or id; without it, the node that is asked
    #[arg(value_name = "NODE")]
    pub member: Option<String>,
    /// Let it take part again
    #[arg(long)]
    pub undo: bool,
}
