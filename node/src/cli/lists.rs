//! The nouns: `status`, `members`, `partitions`, `actors`, `where`. Each lists, or describes one.

mod inventory;

use std::io::{IsTerminal, Write};
use std::time::Duration;

use ghostlight_core::admin::{
    ActorView, ApplicationView, Health, MemberView, NodeRef, PartitionView, StatusView, WhereView,
};
use ghostlight_protocol::code::Code;
use serde::Serialize;

use super::args::{Actors, Form, Members, Output, Partitions, Status, Target, Where};
use super::client::{Client, block_on};
use super::table::{Align, Table};
use super::{Failure, Verdict};
use crate::api::path::encode;

/// Pause between two looks of `status --watch`.
const WATCH_PERIOD: Duration = Duration::from_secs(1);
/// Pause between two looks of `status --exit-when-healthy`.
const WAIT_PERIOD: Duration = Duration::from_millis(100);

/// `status`.
pub(super) fn status(target: &Target, args: &Status) -> Result<Verdict, Failure> {
    block_on(async {
        let mut client = Client::to(target)?;
        let mut reason = String::new();
        loop {
            let view: Result<StatusView, Failure> = client.read("status").await;
            if args.exit_when_healthy && !args.watch {
                waits_for(&view, &mut reason)?;
            }
            let last = match (&view, args.exit_when_healthy) {
                (Ok(view), true) => view.health == Health::Healthy,
                // While waiting for health, a node that does not answer yet is just not healthy.
                (Err(_), true) => false,
                (_, false) => !args.watch,
            };
            if args.watch || last {
                match &view {
                    Ok(view) => show_status(view, args),
                    Err(failure) if args.watch => eprintln!("{failure}"),
                    Err(_) => {}
                }
            }
            if last {
                return view.map(|view| verdict(view.health));
            }
            tokio::time::sleep(if args.watch {
                WATCH_PERIOD
            } else {
                WAIT_PERIOD
            })
            .await;
        }
    })
}

/// Says why it is still waited, whenever that changes. A node that answers with something else than
/// its status (it wants a token, or this is not its admin port) will not be healthy by waiting.
fn waits_for(view: &Result<StatusView, Failure>, told: &mut String) -> Result<(), Failure> {
    let reason = match view {
        Ok(view) if view.health == Health::Healthy => return Ok(()),
        Ok(view) => view.reasons.join("; "),
        Err(failure) if failure.code() == Some(Code::NodeUnreachable) => failure.to_string(),
        Err(failure) => return Err(failure.clone()),
    };
    if *told != reason {
        eprintln!("waiting: {reason}");
        *told = reason;
    }
    Ok(())
}

fn verdict(health: Health) -> Verdict {
    match health {
        Health::Healthy | Health::Degraded => Verdict::Ok,
        Health::Unhealthy => Verdict::UnhealthyOrEmpty,
    }
}

fn show_status(view: &StatusView, args: &Status) {
    if args.output.form() == Form::Json {
        print_json(view);
        return;
    }
    // Redrawn in place on a terminal; one block after the other elsewhere.
    if args.watch && std::io::stdout().is_terminal() {
        print_text("\u{1b}[H\u{1b}[J");
    }
    print_text(&status_text(view));
}

/// Health first, then one row per node.
pub(super) fn status_text(view: &StatusView) -> String {
    let word = match view.health {
        Health::Healthy => "healthy",
        Health::Degraded => "degraded",
        Health::Unhealthy => "unhealthy",
    };
    let mut text = format!("{word}: {}\n", view.reasons.join("\n  "));
    let expected = view.members.iter().filter(|member| is_expected(member));
    let alive = view.members.iter().filter(|member| member.state == "alive");
    text.push_str(&format!(
        "{} of {} members   {} of {} partitions led   at least {} of {} copies   {} moves\n",
        alive.count(),
        expected.count(),
        view.partitions_led,
        view.partitions,
        view.copies_min,
        view.factor,
        view.moves
    ));
    for mark in &view.weakened {
        text.push_str(&format!("weakened: {mark}\n"));
    }
    for ApplicationView { app, http, grpc } in &view.applications {
        text.push_str(&format!("application {app}   http {http}   grpc {grpc}\n"));
    }
    text.push('\n');
    text.push_str(&members_text(&view.members));
    text
}

/// Whether a member is there, or is missed: not one that has left, nor an edge that is gone.
fn is_expected(member: &MemberView) -> bool {
    match member.state.as_str() {
        "left" => false,
        "down" => member.weight > 0,
        _ => true,
    }
}

/// `members`.
pub(super) fn members(target: &Target, args: &Members) -> Result<Verdict, Failure> {
    block_on(async {
        let mut client = Client::to(target)?;
        if let Some(member) = &args.member {
            let view: MemberView = client.read(&format!("members/{}", encode(member))).await?;
            return Ok(describe(&view, args.output));
        }
        let views: Vec<MemberView> = client.read("members").await?;
        Ok(show(&views, args.output, members_text, "no members"))
    })
}

fn members_text(views: &[MemberView]) -> String {
    let mut table = Table::new(&[
        ("NODE", Align::Left),
        ("STATE", Align::Left),
        ("DUTY", Align::Left),
        ("GEN", Align::Right),
        ("LEADERS", Align::Right),
        ("COPIES", Align::Right),
        ("ZONE", Align::Left),
        ("PEER", Align::Left),
        ("HTTP", Align::Left),
        ("ADMIN", Align::Left),
        ("PID", Align::Right),
    ]);
    for view in views {
        table.row(vec![
            view.name.clone(),
            view.state.clone(),
            view.duty.clone(),
            view.generation.to_string(),
            view.leaders.to_string(),
            view.replicas.to_string(),
            or_dash(&view.zone),
            view.address.clone(),
            or_dash(&view.http),
            or_dash(&view.admin),
            view.pid.to_string(),
        ]);
    }
    table.render()
}

/// `partitions`.
pub(super) fn partitions(target: &Target, args: &Partitions) -> Result<Verdict, Failure> {
    block_on(async {
        let mut client = Client::to(target)?;
        if let Some(partition) = &args.partition {
            let path = format!("partitions/{}", encode(partition));
            let view: PartitionView = client.read(&path).await?;
            let shown = describe(&view, args.output);
            if !is_here(&view) && args.output.form() == Form::Text {
                eprintln!(
                    "the node that was asked has no copy of p{}: its index and hash are to be asked of one that has",
                    view.partition
                );
            }
            return Ok(shown);
        }
        let views: Vec<PartitionView> = client.read("partitions").await?;
        let none = "no partitions: the node has not joined a cluster yet";
        Ok(show(&views, args.output, partitions_text, none))
    })
}

/// Whether the node that was asked has a copy, so that there is something to count.
fn is_here(view: &PartitionView) -> bool {
    view.role != "none"
}

fn partitions_text(views: &[PartitionView]) -> String {
    let mut table = Table::new(&[
        ("PARTITION", Align::Left),
        ("LEADER", Align::Left),
        ("TERM", Align::Left),
        ("HERE", Align::Left),
        ("VOTERS", Align::Left),
        ("LEARNERS", Align::Left),
        ("COMMIT", Align::Right),
        ("APPLIED", Align::Right),
        ("OUTBOX", Align::Right),
        ("INBOX", Align::Right),
    ]);
    for view in views {
        let count = |count: u64| match is_here(view) {
            true => count.to_string(),
            false => "-".to_owned(),
        };
        table.row(vec![
            format!("p{}", view.partition),
            view.leader
                .as_ref()
                .map_or_else(|| "-".to_owned(), |leader| leader.name.clone()),
            format!("t{}", view.term),
            view.role.clone(),
            names(&view.voters),
            names(&view.learners),
            count(view.commit),
            count(view.applied),
            count(view.outbox),
            count(view.inbox),
        ]);
    }
    table.render()
}

/// `actors`.
pub(super) fn actors(target: &Target, args: &Actors) -> Result<Verdict, Failure> {
    if let Some(command) = &args.command {
        return inventory::run(target, command);
    }
    block_on(async {
        let mut client = Client::to(target)?;
        let Some(actor) = &args.actor else {
            let views: Vec<ActorView> = client.read("actors").await?;
            let none = "no activations on the node that was asked. \"ghostlight actors list TYPE\" has those of the \
                        whole cluster, \"ghostlight where TYPE/ID\" says which node leads one";
            return Ok(show(&views, args.output, actors_text, none));
        };
        let (actor_type, actor_id) = split_actor(actor)?;
        let path = format!("actors/{}/{}", encode(actor_type), encode(actor_id));
        let view: Option<ActorView> = client.read(&path).await?;
        match view {
            Some(view) => Ok(describe(&view, args.output)),
            None => {
                if args.output.form() == Form::Json {
                    print_json(&view);
                }
                eprintln!(
                    "{actor} has no activation on this node. \"ghostlight where {actor}\" shows where it lives"
                );
                Ok(Verdict::UnhealthyOrEmpty)
            }
        }
    })
}

fn actors_text(views: &[ActorView]) -> String {
    let mut table = Table::new(&[
        ("ACTOR", Align::Left),
        ("PARTITION", Align::Left),
        ("NODE", Align::Left),
        ("STATE", Align::Left),
        ("MAILBOX", Align::Right),
        ("TURNS", Align::Right),
        ("VERSION", Align::Right),
    ]);
    for view in views {
        table.row(vec![
            view.actor.clone(),
            format!("p{}", view.partition),
            view.node.name.clone(),
            view.state.clone(),
            view.mailbox.to_string(),
            view.turns.to_string(),
            view.version.to_string(),
        ]);
    }
    table.render()
}

/// `where`.
pub(super) fn locate(target: &Target, args: &Where) -> Result<Verdict, Failure> {
    let (actor_type, actor_id) = split_actor(&args.actor)?;
    block_on(async {
        let path = format!("where/{}/{}", encode(actor_type), encode(actor_id));
        let view: WhereView = Client::to(target)?.read(&path).await?;
        let led = view.leader.is_some();
        match args.output.form() {
            Form::Json => print_json(&view),
            Form::Text => {
                let leader = view
                    .leader
                    .as_ref()
                    .map_or("nobody", |leader| leader.name.as_str());
                print_text(&format!(
                    "{} is in partition p{}, led by {leader}, with copies on {}\n",
                    view.actor,
                    view.partition,
                    names(&view.replicas)
                ));
            }
        }
        Ok(if led {
            Verdict::Ok
        } else {
            Verdict::UnhealthyOrEmpty
        })
    })
}

/// `type/id`; an id may contain slashes.
pub(super) fn split_actor(actor: &str) -> Result<(&str, &str), Failure> {
    match actor.split_once('/') {
        Some((actor_type, actor_id)) if !actor_type.is_empty() && !actor_id.is_empty() => {
            Ok((actor_type, actor_id))
        }
        _ => Err(Failure::usage(
            Code::InvalidActorId,
            format!("{actor:?} is not an actor. Write TYPE/ID, such as counter/alice"),
        )),
    }
}

pub(super) fn show<T: Serialize>(
    views: &[T],
    output: Output,
    table: fn(&[T]) -> String,
    none: &str,
) -> Verdict {
    match output.form() {
        Form::Json => print_json(&views),
        Form::Text if views.is_empty() => eprintln!("{none}"),
        Form::Text => print_text(&table(views)),
    }
    if views.is_empty() {
        Verdict::UnhealthyOrEmpty
    } else {
        Verdict::Ok
    }
}

/// Every field of one thing, a line each.
pub(super) fn describe<T: Serialize>(view: &T, output: Output) -> Verdict {
    if output.form() == Form::Json {
        print_json(view);
        return Verdict::Ok;
    }
    let value = serde_json::to_value(view).expect("views have string keys and finite numbers");
    let fields = value.as_object().cloned().unwrap_or_default();
    let width = fields.keys().map(String::len).max().unwrap_or(0);
    for (name, value) in fields {
        print_text(&format!(
            "{:<width$}  {}\n",
            name.replace('_', " "),
            plain(&value)
        ));
    }
    Verdict::Ok
}

fn plain(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::Null => "-".to_owned(),
        serde_json::Value::String(text) => or_dash(text),
        serde_json::Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(", "),
        serde_json::Value::Object(fields) => {
            fields.get("name").map_or_else(|| value.to_string(), plain)
        }
        other => other.to_string(),
    }
}

fn names(nodes: &[NodeRef]) -> String {
    let names: Vec<&str> = nodes.iter().map(|node| node.name.as_str()).collect();
    or_dash(&names.join(","))
}

pub(super) fn or_dash(text: &str) -> String {
    if text.is_empty() {
        "-".to_owned()
    } else {
        text.to_owned()
    }
}

pub(super) fn print_json<T: Serialize>(value: &T) {
    let text = serde_json::to_string_pretty(value).expect("views have string keys");
    print_text(&format!("{text}\n"));
}

/// Writes data. A reader that has closed the pipe has what it wanted.
pub(super) fn print_text(text: &str) {
    drop(try_print(text));
}

/// Writes data.
///
/// # Errors
/// Nobody reads it, or it cannot be written.
pub(super) fn try_print(text: &str) -> std::io::Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

#[cfg(test)]
mod tests;
