//! What a cluster keeps and what it refuses: recorded replies across a failover, and starts that
//! are wrong.

use std::time::Duration;

use ghostlight_chaos::client::Client;
use ghostlight_chaos::cluster::{Cluster, write_key};
use ghostlight_chaos::ports::free_address;
use ghostlight_chaos::process::{self, Process};
use ghostlight_chaos::scenario::{FEW_PARTITIONS, turn, without};
use ghostlight_chaos::wait::until;

#[test]
fn s08_a_repeated_request_gets_the_recorded_reply() {
    let _turn = turn();
    let mut cluster = Cluster::form(3, FEW_PARTITIONS);
    let mut client = Client::new(&cluster.http(), 0);
    let append = "log/once/method/append";
    for (id, line, length) in [
        ("a", "\"x\"", "1"),
        ("b", "\"y\"", "2"),
        ("a", "\"x\"", "1"),
    ] {
        assert_eq!(client.good(append, id, line), Ok(length.to_owned()), "{id}");
    }
    let refused = |client: &mut Client, when: &str| {
        let reply = client.call(append, "a", "\"other\"").expect("an answer");
        assert_eq!(reply.status, 409, "{when}: {}", reply.body);
        assert_eq!(reply.header("ghostlight-error"), Some("E0109"), "{when}");
    };
    refused(&mut client, "before the kill");
    let victim = cluster.leader_of("log/once");
    cluster.kill(victim);
    let mut client = Client::new(&without(&cluster, victim), 0);
    assert_eq!(client.good(append, "a", "\"x\""), Ok("1".to_owned()));
    assert_eq!(client.good(append, "b", "\"y\""), Ok("2".to_owned()));
    refused(&mut client, "after the kill");
    assert_eq!(client.good(append, "c", "\"z\""), Ok("3".to_owned()));
    let stored = ["x", "y", "z"].map(str::to_owned).to_vec();
    assert_eq!(client.read_log("once"), Ok(stored));
    println!("repeated ids: recorded replies before and after a kill -9 of the leader");
}

#[test]
fn s09_wrong_starts_are_refused() {
    let _turn = turn();
    let cluster = Cluster::form(1, FEW_PARTITIONS);
    let with = |changes: &[(&str, String)]| {
        let mut args = cluster.start_args(0);
        for (flag, value) in changes {
            let place = args
                .iter()
                .position(|arg| arg == flag)
                .expect("a flag that is given");
            args[place + 1].clone_from(value);
        }
        args
    };
    let fresh = |flag: &'static str| (flag, free_address());
    let addresses = || {
        ["--listen", "--http", "--grpc", "--admin"]
            .map(fresh)
            .to_vec()
    };
    let data = |name: &str| ("--data-dir", cluster.path(name).display().to_string());

    let mut second = Process::start(&with(&addresses()), &cluster.path("second.log"));
    let status = second.wait(Duration::from_secs(10));
    assert!(
        !status.success() && second.said().contains("E0301"),
        "{status} {}",
        second.said()
    );

    let mut taken = addresses();
    taken.retain(|(flag, _)| *flag != "--http");
    taken.push(data("taken"));
    let mut third = Process::start(&with(&taken), &cluster.path("third.log"));
    let status = third.wait(Duration::from_secs(10));
    assert!(
        !status.success() && third.said().contains("E0401"),
        "{status} {}",
        third.said()
    );

    let output = process::run(&["start", "--dat-dir", "x"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        process::stderr(&output).contains("'--data-dir'"),
        "{}",
        process::stderr(&output)
    );

    let key = process::run(&["keygen"]).stdout;
    write_key(&cluster.path("other.key"), &key);
    let mut stranger = addresses();
    stranger.push(data("stranger"));
    stranger.push((
        "--cluster-key-file",
        cluster.path("other.key").display().to_string(),
    ));
    stranger.push(("--name", "stranger".to_owned()));
    let mut args = with(&stranger);
    args.extend(["--join".to_owned(), cluster.peer(0).to_owned()]);
    let stranger = Process::start(&args, &cluster.path("stranger.log"));
    until("the stranger is told why", Duration::from_secs(20), || {
        stranger.said().contains("E0205").then_some(())
    });
    println!(
        "wrong key: {}",
        stranger.said().lines().last().unwrap_or_default()
    );
    let status = cluster.admin(0, "status").expect("the node answers");
    assert_eq!(
        status["members"].as_array().map(Vec::len),
        Some(1),
        "{status}"
    );
}

/// Who looks right after a death must not be told that all is well, nor count leaderships twice.
#[test]
fn s11_status_names_a_dead_node_before_gossip_does() {
    let _turn = turn();
    let mut cluster = Cluster::form(3, 64);
    let victim = cluster.busiest();
    let asked = (0..3).find(|node| *node != victim).expect("three nodes");
    let name = cluster.name(victim).to_owned();
    cluster.kill(victim);
    let told = until("status names the dead node", Duration::from_secs(2), || {
        let status = cluster.admin(asked, "status")?;
        let reasons = status["reasons"].to_string();
        reasons.contains(&format!("{name} is ")).then_some(status)
    });
    println!("{}", told["reasons"]);
    assert_ne!(told["health"], "healthy");
    let led = until(
        "all partitions are led again",
        Duration::from_secs(10),
        || {
            let status = cluster.admin(asked, "status")?;
            (status["partitions_led"] == 64).then_some(status)
        },
    );
    let members = led["members"].as_array().into_iter().flatten();
    let victims = members.filter(|row| row["name"] == name);
    assert!(victims.into_iter().all(|row| row["leaders"] == 0), "{led}");
}
