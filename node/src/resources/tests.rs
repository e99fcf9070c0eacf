mod secrets;

use std::time::Duration;

use super::*;

fn environment(name: &str) -> Option<String> {
    (name == "REDIS_PASSWORD").then(|| "hush".to_owned())
}

/// Folders and files as they stand on a disk.
struct Files {
    dir: tempfile::TempDir,
}

impl Files {
    fn new(files: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        Self { dir }
    }

    fn load(&self) -> Result<Resources, Error> {
        let folders = [self.dir.path().to_owned()];
        let sources = Sources {
            folders: &folders,
            configs: &[],
            app_id: "shop",
            builtin: &[],
        };
        Resources::load(sources, &environment)
    }
}

const COMPONENTS: &str = r#"
# A comment, and an empty document before the first.
---
apiVersion: dapr.io/v1alpha1
kind: Component
metadata:
  name: store
  namespace: default
spec:
  type: state.redis
  version: v1
  initTimeout: 5s
  metadata:
  - name: redisHost
    value: localhost:6379
  - name: redisPassword
    secretKeyRef:
      name: REDIS_PASSWORD
      key: REDIS_PASSWORD
  - name: other
    envRef: REDIS_PASSWORD
  - name: actorStateStore
    value: "true"
  - name: count
    value: 7
  - name: script
    value: |
      first
       --- not a marker
auth:
  secretStore: env
---
apiVersion: dapr.io/v1alpha1
kind: Component
metadata: {name: env}
spec: {type: secretstores.local.env}
---
apiVersion: dapr.io/v1alpha1
kind: Component
metadata: {name: hidden}
spec: {type: pubsub.in-memory, version: v1}
scopes: [other]
"#;

const REST: &str = r#"
apiVersion: dapr.io/v1alpha1
kind: Subscription
metadata: {name: old}
spec: {pubsubname: bus, topic: orders, route: /orders, deadLetterTopic: ""}
---
apiVersion: dapr.io/v2alpha1
kind: Subscription
metadata: {name: new}
spec:
  pubsubname: bus
  topic: events
  routes:
    rules:
    - {match: event.type == "a", path: /a}
    default: /rest
  metadata: {rawPayload: "true"}
  deadLetterTopic: dead
  bulkSubscribe: {enabled: true, maxMessagesCount: 7}
scopes: [shop]
---
apiVersion: dapr.io/v1alpha1
kind: Configuration
metadata: {name: config}
spec:
  features:
  - {name: ActorStateTTL, enabled: true}
  - {name: HotReload, enabled: false}
  api:
    allowed: [{name: actors, version: v1, protocol: HTTP}]
    denied: [{name: state, version: v1}]
  tracing: {samplingRate: "1"}
---
apiVersion: dapr.io/v1alpha1
kind: Resiliency
metadata: {name: policies}
spec:
  policies:
    timeouts: {short: 5s, none: "0"}
    retries:
      often:
        policy: constant
        duration: 200ms
        maxRetries: 4
        matching: {httpStatusCodes: "429,500-599", gRPCStatusCodes: "14"}
      DaprBuiltInActorRetries: {policy: constant, duration: 2s, maxRetries: -1}
      DaprBuiltInActorNotFoundRetries: {policy: constant, maxRetries: 9}
      slow: {policy: exponential, maxInterval: 15s, maxRetries: -1}
    circuitBreakers:
      shy: {maxRequests: 2, interval: 8s, timeout: 45s, trip: consecutiveFailures >= 8}
  targets:
    actors:
      bank: {timeout: short, retry: often, circuitBreaker: shy, circuitBreakerScope: both}
      idle: {timeout: none, retry: slow}
    components: {bus: {outbound: {timeout: short}, inbound: {retry: often}}}
    apps: {other: {timeout: short}}
---
apiVersion: dapr.io/v1alpha1
kind: HTTPEndpoint
metadata: {name: outside}
spec: {baseUrl: "http://x"}
"#;

#[test]
fn every_kind_is_read() {
    let files = Files::new(&[
        ("a.yaml", COMPONENTS),
        ("b.yml", REST),
        ("c.txt", "not: [yaml"),
    ]);
    let all = files.load().unwrap();
    let names: Vec<&str> = all.components.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(names, ["store", "env"], "hidden is for another application");
    let store = all.actor_state_store().unwrap().unwrap();
    assert_eq!(
        (store.kind.as_str(), store.version.as_str()),
        ("state.redis", "v1")
    );
    for (name, value) in [
        ("redishost", "localhost:6379"),
        ("redisPassword", "hush"),
        ("other", "hush"),
        ("count", "7"),
        ("script", "first\n --- not a marker\n"),
    ] {
        assert_eq!(store.value(name), Some(value), "{name}");
    }
    assert!(
        !format!("{all:?}").contains("hush"),
        "secrets are not printed"
    );
    let [old, new] = &all.subscriptions[..] else {
        panic!("{:?}", all.subscriptions)
    };
    assert_eq!(
        (old.default_path.as_deref(), &old.rules[..]),
        (Some("/orders"), &[][..])
    );
    assert_eq!((old.dead_letter_topic.clone(), old.bulk), (None, None));
    assert_eq!(
        new.rules,
        [("event.type == \"a\"".to_owned(), "/a".to_owned())]
    );
    assert_eq!(new.default_path.as_deref(), Some("/rest"));
    assert_eq!(new.dead_letter_topic.as_deref(), Some("dead"));
    let bulk = new.bulk.unwrap();
    assert_eq!(
        (bulk.max_messages_count, bulk.max_await_duration_ms),
        (7, 1_000)
    );
    assert_eq!(all.configuration.enabled_features(), ["ActorStateTTL"]);
    let allowed = &all.configuration.allowed[0];
    assert_eq!(
        (allowed.name.as_str(), allowed.protocol.as_str()),
        ("actors", "http")
    );
    let bank = &all.resiliency[0].actors["bank"];
    assert_eq!(bank.timeout, Some(Duration::from_secs(5)));
    let often = bank.retry.clone().unwrap();
    assert_eq!(often.backoff, Backoff::Constant(Duration::from_millis(200)));
    assert_eq!(often.max_retries, Some(4));
    let taken = [429, 503, 409].map(|status| often.matching.takes(FailedWith::Http(status)));
    assert_eq!(taken, [true, true, false]);
    let built_in = built_in_retry(&all.resiliency, ACTOR_RETRIES).unwrap();
    assert_eq!(built_in.max_retries, Some(3), "with an end, as in Dapr");
    let (shy, scope) = bank.breaker.clone().unwrap();
    assert_eq!((shy.max_requests, scope), (2, BreakerScope::Both));
    assert_eq!(shy.trip, TripRule::ConsecutiveFailuresOver(7));
    let idle = &all.resiliency[0].actors["idle"];
    let retries = idle.retry.clone().unwrap().max_retries;
    assert_eq!((idle.timeout, retries), (None, None));
    warned(&all);
    both_directions(&all.resiliency);
}

fn warned(all: &Resources) {
    let warned = [
        "policy DaprBuiltInActorRetries has 3 retries: it must have as many, and an end",
        "policy DaprBuiltInActorNotFoundRetries cannot be overridden, as in Dapr",
        "the rule of spec.api for state v1 has no effect: protocol is \"\". Write http or grpc",
        "spec.tracing of Configuration config has no effect here",
        "spec.targets.apps of Resiliency policies has no effect here",
        "resources of kind HTTPEndpoint have no effect here",
    ];
    for words in warned {
        let times = all.warnings.iter().filter(|w| w.ends_with(words)).count();
        assert_eq!(times, 1, "{words} in {:?}", all.warnings);
    }
    assert_eq!(all.warnings.len(), warned.len(), "{:?}", all.warnings);
}

#[test]
fn errors_name_file_and_line() {
    let component = |spec: &str| {
        format!("kind: Component\nmetadata:\n  name: c\nspec:\n  type: state.x\n{spec}")
    };
    let mut wrong = Vec::new();
    for (text, line, words) in [
        ("kind: Component\nmetadata: {name: c}\n".to_owned(), 2, "missing field `spec`"),
        ("kind: Component\nspec: {type: x}\n".to_owned(), 1, "metadata.name is missing"),
        ("kind: Component\nmetadata: {name: c}\nspec: {}\n".to_owned(), 1, "has no spec.type"),
        (format!("---\n---\n{}", component("  ignoreErrors: [1]\n")), 8, "scalar"),
        (component("  type: again\n"), 6, "uplicate"),
        (component("  - broken\n"), 6, ""),
        (
            component("  metadata: [{name: p, secretKeyRef: {name: n}}]\n").replace("state.x", "pubsub.redis"),
            1,
            "metadata p of component c: its secret is in the secret store \"\", which is not declared. Declare a \
             secretstores.local.env",
        ),
        ("kind: [x]\n".to_owned(), 1, ""),
        (
            component("  metadata: [{name: p, envRef: DAPR_API_TOKEN}]\n"),
            1,
            "may not be used in envRef",
        ),
        (
            "kind: Subscription\nmetadata: {name: s}\nspec: {topic: t, route: /}\n".to_owned(),
            1,
            "has no spec.pubsubname",
        ),
        (
            "kind: Subscription\nmetadata: {name: s}\nspec: {pubsubname: p, topic: t}\n".to_owned(),
            1,
            "has no route",
        ),
        (
            "kind: Resiliency\nmetadata: {name: r}\nspec:\n  targets: {actors: {a: {retry: none}}}\n".to_owned(),
            1,
            "there is no retry named \"none\"",
        ),
        (
            "kind: Resiliency\nmetadata: {name: r}\nspec:\n  policies: {timeouts: {t: soon}}\n".to_owned(),
            1,
            "policy t: \"soon\" is no duration",
        ),
        (
            "kind: Resiliency\nmetadata: {name: r}\nspec:\n  policies: {retries: {t: {matching: {httpStatusCodes: often}}}}\n"
                .to_owned(),
            1,
            "policy t: matching.httpStatusCodes: \"often\" is no code",
        ),
    ] {
        let files = Files::new(&[("x.yaml", &text)]);
        let error = files.load().expect_err(&text).to_string();
        let place = format!("x.yaml:{line}: ");
        if !error.contains(&place) || !error.contains(words) {
            wrong.push(format!("{place}{words} is not in {error}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// As Go reads names, and with it Dapr. What the user names himself keeps its case.
#[test]
fn names_of_fields_are_read_in_any_case() {
    let text = "APIVersion: dapr.io/v2alpha1\nKind: Subscription\nMetadata: {Name: s}\nSpec:\n  pubsubName: bus\n  \
                TOPIC: t\n  Routes: {Rules: [{Match: 'true', Path: /a}], Default: /b}\n  metadata: {rawPayload: x}\n  \
                deadlettertopic: dead\n  bulkSubscribe: {enabled: true, maxmessagescount: 0, maxAwaitDurationMs: -1}\n\
                Scopes: [shop]\n---\nkind: Component\nmetadata: {name: c}\nspec:\n  type: pubsub.redis\n  metadata:\n  \
                - {name: p, secretkeyref: {name: REDIS_PASSWORD}}\nauth: {secretstore: env}\n---\n\
                kind: Component\nmetadata: {name: env}\nspec: {Type: secretstores.local.env}\n";
    let all = Files::new(&[("x.yaml", text)]).load().unwrap();
    let found = &all.subscriptions[0];
    assert_eq!((&*found.pubsub, &*found.topic), ("bus", "t"));
    assert_eq!(found.rules, [("true".to_owned(), "/a".to_owned())]);
    assert_eq!(found.default_path.as_deref(), Some("/b"));
    assert_eq!(found.dead_letter_topic.as_deref(), Some("dead"));
    assert_eq!(found.bulk, Some(BulkSubscribe::of(None, None)));
    assert_eq!(found.metadata["rawPayload"], "x");
    assert_eq!(all.components[0].value("p"), Some("hush"));
    assert_eq!(all.warnings, Vec::<String>::new());
}

#[test]
fn what_is_not_of_dapr_is_left_out_with_a_warning() {
    let text = "apiVersion: v1\nkind: ConfigMap\ndata: {spec: [1]}\n---\na: 1\n---\n- kind: Component\n---\n\
                apiVersion: apps/v1\nkind: Component\nspec: 7\n";
    let all = Files::new(&[("x.yaml", text)]).load().unwrap();
    let said = [
        "x.yaml:1: it is a ConfigMap of v1, and none of Dapr's",
        "x.yaml:5: it has no kind",
        "x.yaml:7: it is no resource",
        "x.yaml:9: it is a Component of apps/v1, and none of Dapr's",
    ];
    assert_eq!(all.warnings.len(), said.len(), "{:?}", all.warnings);
    for (warning, words) in all.warnings.iter().zip(said) {
        let words = format!("{words}: the document is left out");
        assert!(warning.ends_with(&words), "{words} is not in {warning}");
    }
}

/// Whatever is wrong with it: a secret, a policy, a route.
#[test]
fn what_is_for_another_application_is_not_looked_at() {
    let text = "kind: Component\nmetadata: {name: a}\nspec:\n  type: pubsub.redis\n  metadata: [{name: p, secretKeyRef: \
                {name: n}}]\nscopes: [other]\n---\nkind: Subscription\nmetadata: {name: s}\nspec: {}\nscopes: [other]\n---\n\
                kind: Resiliency\nmetadata: {name: r}\nspec: {policies: {timeouts: {t: soon}}}\nscopes: [other]\n";
    let all = Files::new(&[("x.yaml", text)]).load().unwrap();
    assert_eq!(all.hidden_components, ["a"]);
    assert!(all.components.is_empty() && all.subscriptions.is_empty() && all.resiliency.is_empty());
    assert_eq!(all.warnings, Vec::<String>::new());
}

#[test]
fn what_cannot_be_true_together_is_refused() {
    let marked = |name: &str| {
        format!(
            "kind: Component\nmetadata: {{name: {name}}}\nspec:\n  type: state.x\n  metadata:\n  - {{name: \
             actorStateStore, value: true}}\n"
        )
    };
    let two = format!("{}---\n{}", marked("a"), marked("b"));
    let all = Files::new(&[("x.yaml", &two)]).load().unwrap();
    let error = all.actor_state_store().unwrap_err().to_string();
    assert!(error.contains("x.yaml:8: two state stores"), "{error}");
    let twice = format!("{}---\n{}", marked("a"), marked("a"));
    let error = Files::new(&[("x.yaml", &twice)])
        .load()
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("there is a component \"a\" already"),
        "{error}"
    );
    let nowhere = Sources {
        folders: &[PathBuf::from("/nonexistent/resources")],
        configs: &[],
        app_id: "shop",
        builtin: &[],
    };
    let error = Resources::load(nowhere, &environment)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("/nonexistent/resources: the folder of resources"),
        "{error}"
    );
}

fn both_directions(all: &[Resiliency]) {
    let inbound = of_pubsub(all, "bus", Direction::Inbound);
    assert_eq!(inbound.retry.unwrap().max_retries, Some(4));
    assert_eq!(inbound.timeout, None);
    let outbound = of_pubsub(all, "bus", Direction::Outbound);
    assert!(outbound.timeout.is_some() && outbound.retry.is_none());
}

#[test]
fn built_in_names_count_where_no_target_says_anything() {
    let timeouts = |names: &[(&str, u64)]| Resiliency {
        timeouts: names
            .iter()
            .map(|(name, seconds)| ((*name).to_owned(), Duration::from_secs(*seconds)))
            .collect(),
        ..Resiliency::default()
    };
    let all = [
        timeouts(&[
            ("DefaultTimeoutPolicy", 1),
            ("DefaultPubsubComponentInboundTimeoutPolicy", 2),
        ]),
        timeouts(&[
            ("DefaultComponentTimeoutPolicy", 3),
            ("DefaultTimeoutPolicy", 4),
        ]),
    ];
    for (count, direction, seconds) in [
        (1, Direction::Inbound, 2),
        (1, Direction::Outbound, 1),
        (2, Direction::Inbound, 2),
        (2, Direction::Outbound, 3),
    ] {
        let found = of_pubsub(&all[..count], "bus", direction);
        assert_eq!(
            found.timeout,
            Some(Duration::from_secs(seconds)),
            "{count} {direction:?}"
        );
    }
}

#[test]
fn files_that_change_are_seen_and_others_are_not() {
    let files = Files::new(&[("b.yaml", "kind: Odd\n"), ("a.txt", "x")]);
    let at = |name: &str| files.dir.path().join(name);
    let outside = files.dir.path().join("config.yaml.d");
    let looked = super::Files {
        folders: vec![files.dir.path().to_owned(), outside.clone()],
        configs: vec![at("a.txt")],
        builtin: Vec::new(),
    };
    let mut before = looked.stand();
    assert_eq!(looked.stand(), before);
    std::fs::write(at("unread.md"), "x").unwrap();
    assert_eq!(looked.stand(), before, "it is none of them");
    let mut differs = |what: &str, change: &dyn Fn()| {
        change();
        let now = looked.stand();
        assert_ne!(now, before, "{what}");
        before = now;
    };
    differs("a new file", &|| std::fs::write(at("c.yml"), "").unwrap());
    differs("a longer one", &|| {
        std::fs::write(at("c.yml"), "kind: Odd\n").unwrap();
    });
    differs("one that took its place", &|| {
        std::fs::write(at("new"), "kind: Odd\n").unwrap();
        std::fs::rename(at("new"), at("c.yml")).unwrap();
    });
    differs("one that is gone", &|| {
        std::fs::remove_file(at("c.yml")).unwrap();
    });
    differs("a configuration", &|| {
        std::fs::write(at("a.txt"), "longer").unwrap();
    });
    differs("a folder that was not there", &|| {
        std::fs::create_dir(&outside).unwrap();
        std::fs::write(outside.join("d.yaml"), "").unwrap();
    });
}
