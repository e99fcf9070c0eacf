use super::*;

#[test]
fn the_command_line_is_consistent() {
    command().debug_assert();
}

#[test]
fn every_command_has_an_example_in_its_help() {
    for sub in command().get_subcommands().filter(|sub| !sub.is_hide_set()) {
        let help = sub
            .get_after_help()
            .map(ToString::to_string)
            .unwrap_or_default();
        assert!(
            help.contains("Example") && help.contains("ghostlight"),
            "{}",
            sub.get_name()
        );
        assert!(sub.get_about().is_some(), "{}", sub.get_name());
    }
}

#[test]
fn what_can_be_typed() {
    for line in [
        "demo --nodes 3 --chaos --for 30s",
        "start --config f --profile dev --name n --namespace x --data-dir d --listen 127.0.0.1:1 \
         --advertise 127.0.0.1:1 --join a:1,b:2 --introduce none --http :1 --grpc :2 --admin :3 --zone z --weight 0 \
         --min-copies 2 --cluster-key-file k --api-token-file t --partitions 64 --log-level debug \
         --log-format json --samples --app bank=3000,protocol=h2c --app shop=3001",
        "daprd --app-id shop -app-port=1 --help --version",
        "placement --port 1 -id x",
        "status -w --exit-when-healthy --json",
        "members n2 --json",
        "partitions 17",
        "actors counter/alice",
        "where counter/alice --json",
        "invoke counter/alice/add -d 5 --request-id r",
        "invoke counter/alice/add -d -5",
        "invoke log/x/append -d @file",
        "invoke log/x/append -d -",
        "topics --pubsub bus --json",
        "topics orders",
        "subscriptions",
        "subscriptions orders --json",
        "subscriptions pause orders shop",
        "subscriptions resume orders shop --pubsub bus",
        "subscriptions seek orders shop first",
        "subscriptions seek orders shop 17 --partition 3",
        "dead-letters list orders shop --json",
        "dead-letters show orders shop 3/17",
        "dead-letters redrive orders shop 3/17 4/0",
        "dead-letters redrive orders shop --all --discard",
        "publish orders -d 5 --key alice --id o1 --content-type text/plain",
        "publish orders -d -",
        "subscribe orders --group none --from 10m --count 3",
        "drain n2 --undo",
        "drain",
        "leave",
        "leave n2 --node http://127.0.0.1:7481",
        "remove n2",
        "keygen",
        "bench --only turn_cpu,idle_cpu --quick --repeat 3 --dir d --strict --json",
        "explain E0107",
        "completions bash",
    ] {
        let words = std::iter::once("ghostlight").chain(line.split_whitespace());
        assert!(Args::try_parse_from(words).is_ok(), "{line}");
    }
}

#[test]
fn wrong_usage_is_exit_code_2_and_names_what_was_meant() {
    for (line, says) in [
        ("start --data-dri x", "--data-dir"),
        ("memebrs", "members"),
        ("demo --for 30", "unit"),
        ("demo --nodes 0", "1..=9"),
        ("bench --only turn_cup", "turn_cpu"),
        ("bench --repeat 0", "1..=99"),
        ("remove", "<NODE>"),
    ] {
        let words = std::iter::once("ghostlight").chain(line.split_whitespace());
        let error = Args::try_parse_from(words).expect_err(line);
        assert_eq!(error.exit_code(), 2, "{line}");
        assert!(error.to_string().contains(says), "{line}: {error}");
    }
}

#[test]
fn flags_become_settings() {
    let words = [
        "ghostlight",
        "start",
        "--join",
        "a:1,b:2",
        "--samples",
        "--weight",
        "3",
    ];
    let Command::Start(start) = Args::try_parse_from(words).unwrap().command else {
        panic!("start was typed");
    };
    let settings = start.settings();
    assert_eq!(
        settings.join,
        Some(vec!["a:1".to_owned(), "b:2".to_owned()])
    );
    assert_eq!((settings.samples, settings.weight), (Some(true), Some(3)));
    assert_eq!(settings.name, None);
}

#[test]
fn links_and_commands_play_daprs_programs() {
    let words = |line: &str| -> Vec<String> { line.split(' ').map(str::to_owned).collect() };
    for (line, expected) in [
        ("/opt/dapr/bin/daprd --app-id x", Some("daprd --app-id x")),
        ("daprd daprd", Some("daprd daprd")),
        ("./placement -port 1", Some("placement -port 1")),
        ("ghostlight daprd -v", Some("daprd -v")),
        ("ghostlight placement", Some("placement ")),
        ("ghostlight start", None),
        ("ghostlight", None),
    ] {
        let played = role(&words(line)).map(|role| match role {
            Role::Daprd(arguments) => format!("daprd {}", arguments.join(" ")),
            Role::Placement(arguments) => format!("placement {}", arguments.join(" ")),
        });
        assert_eq!(played.as_deref(), expected, "{line}");
    }
}
