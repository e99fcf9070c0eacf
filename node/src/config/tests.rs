use super::*;

fn no_environment(_: &str) -> Option<String> {
    None
}

fn build(file: &str) -> Result<NodeConfig, Error> {
    let file = Settings::parse(file, "node.toml")?;
    NodeConfig::build(Settings::default(), file, &no_environment)
}

#[test]
fn defaults_are_one_node_on_loopback() {
    let config = build("").unwrap();
    assert_eq!(config.name, "ghostlight-data");
    assert_eq!(config.namespace, "default");
    assert_eq!(config.data_dir, Some(PathBuf::from(DATA_DIR)));
    assert_eq!(config.http.addr, "127.0.0.1:3500".parse().unwrap());
    assert_eq!(config.http.origin, AddrOrigin::Default);
    assert_eq!(config.weight, 1);
    assert_eq!(config.partitions, None);
    assert_eq!(config.cluster_key, KeySource::Process);
    assert!(config.weakened.is_empty());
}

#[test]
fn flags_win_over_the_file_and_the_file_over_defaults() {
    let top = Settings {
        name: Some("flag".into()),
        ..Settings::default()
    };
    let file = Settings::parse("name = 'file'\nzone = 'a'\nnamespace = 'f'", "f").unwrap();
    let environment = |name: &str| (name == "NAMESPACE").then(|| "env".to_owned());
    let config = NodeConfig::build(top, file, &environment).unwrap();
    assert_eq!((config.name.as_str(), config.zone.as_str()), ("flag", "a"));
    assert_eq!(config.namespace, "env");
}

#[test]
fn the_documented_example_is_valid_and_names_every_key() {
    let example = include_str!("../../../deploy/ghostlight.example.toml");
    build(example).unwrap();
    // Commented-out lines are examples too: uncommented, the whole still parses.
    for key in KEYS {
        assert!(
            example.contains(&format!("{key} = ")),
            "{key} is not in the example"
        );
    }
}

#[test]
fn addresses() {
    for (given, wanted) in [
        ("0.0.0.0:1", "0.0.0.0:1"),
        ("10.0.0.1", "10.0.0.1:3500"),
        (":9", "127.0.0.1:9"),
        ("9", "127.0.0.1:9"),
        ("localhost:9", "127.0.0.1:9"),
        ("[::1]:9", "[::1]:9"),
    ] {
        let addr = socket_addr("http", given, 3500).unwrap();
        assert_eq!(addr, wanted.parse().unwrap(), "{given}");
    }
    assert!(socket_addr("http", "example.org:9", 3500).is_err());
}

#[test]
fn seeds_get_the_default_port() {
    let given = vec!["a, b:1".to_owned(), "10.0.0.1".to_owned(), "::1".to_owned()];
    assert_eq!(
        seeds(given).unwrap(),
        ["a:7400", "b:1", "10.0.0.1:7400", "[::1]:7400"]
    );
    for wrong in ["http://a:1", "a:port", "a:0", "a:70000"] {
        assert!(seeds(vec![wrong.to_owned()]).is_err(), "{wrong}");
    }
}

#[test]
fn what_is_refused() {
    for (file, code, says) in [
        (
            "dta-dir = 'x'",
            Code::ConfigUnknownKey,
            "Did you mean \"data-dir\"?",
        ),
        (
            "data_dir = 'x'",
            Code::ConfigUnknownKey,
            "Did you mean \"data-dir\"?",
        ),
        ("qqqq = 1", Code::ConfigUnknownKey, "Known keys: profile"),
        ("weight = 'x'", Code::ConfigInvalid, "invalid type"),
        ("weight = ", Code::ConfigInvalid, "node.toml"),
        ("weight = 17", Code::ConfigInvalid, "from 0 to 16"),
        ("weight = 0", Code::EdgeCannotFound, "--join"),
        ("min-copies = 0", Code::ConfigInvalid, "from 1 to 5"),
        ("partitions = 100", Code::PartitionsInvalid, "power of two"),
        ("partitions = 8192", Code::PartitionsInvalid, "4096"),
        ("partitions = 0", Code::PartitionsInvalid, "power of two"),
        ("name = 'a b'", Code::ConfigInvalid, "--name"),
        ("namespace = 'a#b'", Code::ConfigInvalid, "--namespace"),
        ("namespace = 'a b/c'", Code::ConfigInvalid, "letters"),
        ("namespace = ''", Code::ConfigInvalid, "letters"),
        ("builtin = ['redis']", Code::ConfigInvalid, "pubsub.redis"),
        (
            "builtin = ['pubsub.redis', 'pubsub.foo']",
            Code::ConfigInvalid,
            "ghostlight.builtin",
        ),
        ("listen = '0.0.0.0'", Code::ConfigInvalid, "--advertise"),
        ("listen = '10.0.0.1'", Code::ProfileRefuses, "keygen"),
        ("profile = 'test'", Code::ConfigInvalid, "dev or prod"),
        (
            "profile = 'prod'\nhttp = '0.0.0.0'",
            Code::ProfileRefuses,
            "--api-token-file",
        ),
        ("drain-timeout = '30'", Code::ConfigInvalid, "unit"),
        ("log-level = 'a=b=c'", Code::ConfigInvalid, "filter"),
        ("log-level = 'wran'", Code::ConfigInvalid, "warn"),
        ("log-level = 'info,wran'", Code::ConfigInvalid, "warn"),
        ("log-format = 'xml'", Code::ConfigInvalid, "text or json"),
        (
            "api-token-file = '/nowhere/tokens'",
            Code::KeyFileUnusable,
            "one token per line",
        ),
    ] {
        let error = build(file).expect_err(file);
        assert_eq!(error.code(), code, "{file}: {error}");
        assert!(error.to_string().contains(says), "{file}: {error}");
    }
}

#[test]
fn an_exposed_api_warns_in_dev() {
    let config = build("http = '0.0.0.0:3500'").unwrap();
    assert_eq!(config.weakened.len(), 1, "{:?}", config.weakened);
}

#[test]
fn an_exposed_peer_address_needs_a_named_key() {
    let text = "listen = '10.0.0.1'\ncluster-key-file = 'k'";
    assert_eq!(
        build(text).unwrap().cluster_key,
        KeySource::File(PathBuf::from("k"))
    );
    let environment = |name: &str| (name == "GHOSTLIGHT_CLUSTER_KEY").then(|| "ab\n".to_owned());
    let file = Settings::parse("listen = '10.0.0.1'", "f").unwrap();
    let config = NodeConfig::build(Settings::default(), file, &environment).unwrap();
    assert_eq!(config.cluster_key, KeySource::Inline(Secret::new("ab")));
    assert!(
        !format!("{config:?}").contains("\"ab\""),
        "a secret was printed"
    );
}

#[test]
fn an_edge_needs_no_data_directory() {
    let config = build("weight = 0\njoin = ['127.0.0.1:7400']").unwrap();
    assert_eq!((config.data_dir, config.name.as_str()), (None, "edge"));
}

#[test]
fn applications() {
    let environment = |name: &str| (name == "APP_API_TOKEN").then(|| "t".to_owned());
    let file = Settings::parse("app = ['bank=3000', 'shop=3001,protocol=h2c']", "f").unwrap();
    let config = NodeConfig::build(Settings::default(), file, &environment).unwrap();
    let found: Vec<_> = config
        .apps
        .iter()
        .map(|app| (app.id.as_str(), app.token.clone()))
        .collect();
    let token = Some(Secret::new("t"));
    assert_eq!(found, [("bank", token.clone()), ("shop", token)]);
    let many = (0..=APPS_MAX).map(|n| format!("'a{n}={}'", n + 1));
    let many = format!("app = [{}]", many.collect::<Vec<_>>().join(","));
    for (wrong, says) in [
        ("app = ['bank']", "has no port"),
        (
            "app = ['bank=1', 'bank=2']",
            "another application of that name",
        ),
        (many.as_str(), "at most 16"),
    ] {
        let error = build(wrong).unwrap_err();
        assert_eq!(error.code(), Code::ConfigInvalid);
        assert!(error.to_string().contains(says), "{wrong}: {error}");
    }
}

/// What a start takes from the last one: all of it, or nothing.
#[test]
fn a_restart_is_the_last_start_unless_it_says_what_the_node_is() {
    let dir = tempfile::tempdir().unwrap();
    let first = Settings {
        zone: Some("a".into()),
        weight: Some(2),
        samples: Some(true),
        cluster_key_file: Some("k/cluster.key".into()),
        join: Some(vec!["10.0.0.1:7400".into()]),
        partitions: Some(16),
        ..Settings::default()
    };
    first.remember(dir.path()).unwrap();
    let key = std::env::current_dir().unwrap().join("k/cluster.key");
    let all = Settings {
        partitions: None,
        cluster_key_file: Some(key),
        ..first
    };
    for (given, wanted) in [
        ("", &all),
        (
            "data-dir = 'd'\njoin = ['x:1']\nlog-level = 'debug'\ndrain-timeout = '1s'",
            &all,
        ),
        ("zone = 'b'", &Settings::default()),
        ("samples = false", &Settings::default()),
        ("http = '9'", &Settings::default()),
    ] {
        let given_settings = Settings::parse(given, "given").unwrap();
        let last = Remembered::read(dir.path(), &given_settings).unwrap();
        assert_eq!(&last.settings, wanted, "{given}");
        assert_eq!(last.told.is_some(), wanted == &all, "{given}");
    }
    let nowhere = dir.path().join("nowhere");
    let nothing = Remembered::read(&nowhere, &Settings::default()).unwrap();
    assert_eq!(nothing, Remembered::default());
}

#[test]
fn levels_filters_and_types_that_are_meant() {
    for level in [
        "warn",
        "WARN",
        "off",
        "info,ghostlight=debug",
        "info, ghostlight_core=trace",
        "ghostlight[span{field=1}]=debug",
    ] {
        let config = build(&format!("log-level = '{level}'")).expect(level);
        assert_eq!(config.log.level, level.replace(", ", ","));
    }
    for kind in ghostlight_buses::KINDS {
        let config = build(&format!("builtin = ['{kind}']")).expect(kind);
        assert_eq!(config.builtin, [*kind]);
    }
}
