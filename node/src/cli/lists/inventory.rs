//! `actors COMMAND`: what the whole cluster has, whichever node is asked.

use std::time::Duration;

use ghostlight_core::admin::TypeView;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{names, or_dash, print_json, print_text, split_actor};
use crate::api::admin::{BASE, Done};
use crate::api::inventory::views::{
    ActorsPage, KeysPage, ScheduleView, SchedulesPage, StandingView, WorkView,
};
use crate::api::path::encode;
use crate::cli::args::{ActorsCommand, Form, Output, PageArgs, Schedules, Sure, Target};
use crate::cli::client::{Client, block_on, confirmed, parse};
use crate::cli::http::Ask;
use crate::cli::table::{Align, Table};
use crate::cli::{Failure, Verdict};

/// How long a list may take that goes through all partitions.
const LIST_TIME_MAX: Duration = Duration::from_secs(60);

pub(super) fn run(target: &Target, command: &ActorsCommand) -> Result<Verdict, Failure> {
    match command {
        ActorsCommand::Types { output } => {
            let types: Vec<TypeView> = ask(target, "types")?;
            let none = "no node that is there has an actor type";
            Ok(show(&types, types.len(), *output, none, || {
                types_text(&types)
            }))
        }
        ActorsCommand::List {
            actor_type,
            page,
            output,
        } => {
            let path = format!("types/{}/actors{}", encode(actor_type), query(page));
            let listed: ActorsPage = ask(target, &path)?;
            let count = listed.actors.len();
            let none = format!(
                "no actors of type {actor_type:?}. \"ghostlight actors types\" lists the types"
            );
            let shown = show(&listed, count, *output, &none, || lines(&listed.actors));
            more(*output, listed.next.as_deref());
            Ok(shown)
        }
        ActorsCommand::Why { actor, output } => {
            let view: StandingView = ask(target, &below(actor, "standing")?)?;
            Ok(show(&view, 1, *output, "", || standing_text(&view)))
        }
        ActorsCommand::Keys {
            actor,
            page,
            output,
        } => {
            let path = below(actor, &format!("state{}", query(page)))?;
            let listed: KeysPage = ask(target, &path)?;
            let count = listed.keys.len();
            let none = format!("no state of {actor}");
            let shown = show(&listed, count, *output, &none, || lines(&listed.keys));
            more(*output, listed.next.as_deref());
            Ok(shown)
        }
        ActorsCommand::Reminders(args) => schedules(target, args, "reminders"),
        ActorsCommand::Timers(args) => schedules(target, args, "timers"),
        ActorsCommand::Delete { actor, sure } => delete(target, actor, *sure),
    }
}

fn schedules(target: &Target, args: &Schedules, what: &str) -> Result<Verdict, Failure> {
    let path = match args.of.contains('/') {
        true => below(&args.of, what)?,
        false => format!("types/{}/{what}{}", encode(&args.of), query(&args.page)),
    };
    let listed: SchedulesPage = ask(target, &path)?;
    let count = listed.items.len();
    let none = format!("no {what} of {}", args.of);
    let shown = show(&listed, count, args.output, &none, || {
        schedules_text(&listed.items)
    });
    more(args.output, listed.next.as_deref());
    Ok(shown)
}

fn delete(target: &Target, actor: &str, sure: Sure) -> Result<Verdict, Failure> {
    let (actor_type, actor_id) = split_actor(actor)?;
    confirmed(sure, || {
        format!(
            "this deletes {actor} with its state, reminders and timers, and nothing brings them back. Say --yes if you \
             mean it; \"ghostlight actors keys {actor}\" shows what is there"
        )
    })?;
    let path = format!("{BASE}/actors/{}/{}", encode(actor_type), encode(actor_id));
    block_on(async {
        let reply = Client::to(target)?
            .ask(Ask::delete(path).within(LIST_TIME_MAX))
            .await?;
        let Done { done } = parse(&reply)?;
        eprintln!("{done}");
        Ok(Verdict::Ok)
    })
}

fn ask<T: DeserializeOwned>(target: &Target, path: &str) -> Result<T, Failure> {
    block_on(async {
        let ask = Ask::get(format!("{BASE}/{path}")).within(LIST_TIME_MAX);
        parse(&Client::to(target)?.ask(ask).await?)
    })
}

/// A path below an actor.
fn below(actor: &str, what: &str) -> Result<String, Failure> {
    let (actor_type, actor_id) = split_actor(actor)?;
    Ok(format!(
        "actors/{}/{}/{what}",
        encode(actor_type),
        encode(actor_id)
    ))
}

fn query(page: &PageArgs) -> String {
    let after = page.after.as_deref().unwrap_or_default();
    format!("?limit={}&after={}", page.limit, encode(after))
}

/// Prints a list of `count` items.
fn show<T: Serialize>(
    view: &T,
    count: usize,
    output: Output,
    none: &str,
    text: impl FnOnce() -> String,
) -> Verdict {
    match output.form() {
        Form::Json => print_json(view),
        Form::Text if count == 0 => eprintln!("{none}"),
        Form::Text => print_text(&text()),
    }
    match count {
        0 => Verdict::UnhealthyOrEmpty,
        _ => Verdict::Ok,
    }
}

fn more(output: Output, next: Option<&str>) {
    if let (Form::Text, Some(next)) = (output.form(), next) {
        eprintln!("there may be more: --after {next}");
    }
}

fn lines(items: &[String]) -> String {
    items.iter().map(|item| format!("{item}\n")).collect()
}

fn types_text(types: &[TypeView]) -> String {
    let mut table = Table::new(&[
        ("TYPE", Align::Left),
        ("BUILT IN", Align::Left),
        ("APPLICATIONS", Align::Left),
    ]);
    for view in types {
        table.row(vec![
            view.actor_type.clone(),
            names(&view.native),
            names(&view.applications),
        ]);
    }
    table.render()
}

fn schedules_text(items: &[ScheduleView]) -> String {
    let mut table = Table::new(&[
        ("ACTOR", Align::Left),
        ("NAME", Align::Left),
        ("DUE", Align::Left),
        ("PERIOD", Align::Left),
        ("ENDS", Align::Left),
        ("FAILED", Align::Right),
        ("MISSED", Align::Right),
        ("DROPPED", Align::Right),
    ]);
    for view in items {
        table.row(vec![
            view.actor.clone(),
            view.name.clone(),
            view.due.clone(),
            or_dash(&view.period),
            or_dash(view.ends.as_deref().unwrap_or_default()),
            view.attempts.to_string(),
            view.missed.to_string(),
            view.dropped.to_string(),
        ]);
    }
    table.render()
}

/// Where it is, then whose turn it is, then who waits.
fn standing_text(view: &StandingView) -> String {
    let leader = view.leader.as_ref().map(|leader| leader.name.as_str());
    let host = view.host.as_ref().map(|host| host.name.as_str());
    let mut text = format!(
        "{} is in partition p{}, led by {}, with copies on {}\n",
        view.actor,
        view.partition,
        leader.unwrap_or("nobody"),
        names(&view.replicas)
    );
    if let Some(host) = host {
        text.push_str(&format!("its turns run beside {host}\n"));
    }
    match &view.turn {
        Some(turn) => text.push_str(&format!("in a turn: {}\n", work(turn))),
        None => text.push_str(&format!("{}\n", view.stage)),
    }
    text.push_str(&format!("{} calls wait\n", view.waiting_count));
    for waiting in &view.waiting {
        text.push_str(&format!("  {}\n", work(waiting)));
    }
    text
}

fn work(work: &WorkView) -> String {
    let mut text = format!("{} {} for {} ms", work.kind, work.what, work.for_ms);
    if !work.chain.is_empty() {
        text.push_str(&format!(", called by {}", work.chain.join(" -> ")));
    }
    text
}
