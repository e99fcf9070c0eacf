//! Where the secrets of components come from, and what becomes of a component without its own.

use super::*;

const REDIS: &str = "type: pubsub.redis";

/// What becomes of a component with one secret.
#[derive(Clone, Copy, Debug)]
enum Wanted<'a> {
    Value(&'a str),
    /// An empty value, and words of the warning.
    Empty(&'a str),
    /// It is left out, and words of the warning.
    LeftOut(&'a str),
    /// Words of the error.
    Error(&'a str),
}

/// Lines of the component beside its secret, the store, the reference, and what becomes of it.
type Row<'a> = (&'a str, &'a str, &'a str, Wanted<'a>);

/// Loads a row beside what else is in the folder.
fn load(files: &Files, (lines, store, reference, _): &Row<'_>) -> Result<Resources, Error> {
    let text = format!(
        "kind: Component\nmetadata: {{name: c}}\nspec:\n  {lines}\n  metadata: [{{name: p, secretKeyRef: \
         {{{reference}}}}}]\nauth: {{secretStore: s}}\n---\nkind: Component\nmetadata: {{name: s}}\nspec: {{type: \
         {store}}}\n"
    );
    std::fs::write(files.dir.path().join("x.yaml"), text).unwrap();
    let folders = [files.dir.path().to_owned()];
    let sources = Sources {
        folders: &folders,
        configs: &[],
        app_id: "shop",
        builtin: &["pubsub.kafka".to_owned()],
    };
    Resources::load(sources, &environment)
}

fn check(files: &Files, rows: &[Row<'_>]) {
    for row in rows {
        let all = match (load(files, row), row.3) {
            (Ok(all), Wanted::Value(_) | Wanted::Empty(_) | Wanted::LeftOut(_)) => all,
            (Err(error), Wanted::Error(words)) => {
                let error = error.to_string();
                let place = "x.yaml:1: metadata p of component c: ";
                assert!(error.contains(words), "{words} is not in {error}");
                assert!(error.contains(place), "{error}");
                continue;
            }
            (found, _) => panic!("{row:?}: {found:?}"),
        };
        let component = all.components.iter().find(|one| one.name == "c");
        let value = component.and_then(|component| component.value("p"));
        let (wanted, words) = match row.3 {
            Wanted::Value(value) => (Some(value), ""),
            Wanted::Empty(words) => (Some(""), words),
            Wanted::LeftOut(words) => (None, words),
            Wanted::Error(_) => unreachable!("handled above"),
        };
        assert_eq!(value, wanted, "{row:?}");
        let said = all.warnings.join("\n");
        assert!(said.contains(words), "{words} is not in {said}");
        assert_eq!(said.is_empty(), words.is_empty(), "{said}");
        let hidden = all.hidden_components == ["c"];
        assert_eq!(
            hidden,
            wanted.is_none(),
            "the name of one left out stays taken"
        );
    }
}

#[test]
fn from_the_environment() {
    let env = "secretstores.local.env";
    let prefixed = "secretstores.local.env, metadata: [{name: prefix, value: REDIS_}]";
    let rows = [
        (REDIS, env, "name: REDIS_PASSWORD", Wanted::Value("hush")),
        (REDIS, prefixed, "name: PASSWORD", Wanted::Value("hush")),
        // As in Dapr.
        (
            REDIS,
            env,
            "name: NOTHING",
            Wanted::Empty("no variable NOTHING: the value is empty"),
        ),
        (
            REDIS,
            env,
            "name: DAPR_API_TOKEN",
            Wanted::Empty("is not given to components"),
        ),
    ];
    check(&Files::new(&[]), &rows);
}

#[test]
fn from_a_file() {
    let json = r#"{"redis": {"password": "p", "ports": [1, 2]}, "plain": 7}"#;
    let files = Files::new(&[("secrets.json", json), ("broken.json", "{\"hush\"")]);
    let store = |name: &str, more: &str| {
        let path = files.dir.path().join(name).display().to_string();
        format!("secretstores.local.file, metadata: [{{name: secretsFile, value: {path}}}{more}]")
    };
    let nested = store("secrets.json", "");
    let dots = store("secrets.json", ", {name: nestedSeparator, value: .}");
    let many = store("secrets.json", ", {name: multiValued, value: 'true'}");
    let broken = store("broken.json", "");
    let rows = [
        (
            REDIS,
            nested.as_str(),
            "name: 'redis:password'",
            Wanted::Value("p"),
        ),
        (
            REDIS,
            &nested,
            "name: 'redis:ports:1', key: 'redis:ports:1'",
            Wanted::Value("2"),
        ),
        (REDIS, &nested, "name: plain", Wanted::Value("7")),
        (REDIS, &dots, "name: redis.password", Wanted::Value("p")),
        (
            REDIS,
            &many,
            "name: redis, key: password",
            Wanted::Value("p"),
        ),
        (
            REDIS,
            &many,
            "name: redis, key: 'ports:0'",
            Wanted::Value("1"),
        ),
        (
            REDIS,
            &nested,
            "name: redis, key: password",
            Wanted::Error("no \"password\" of \"redis\""),
        ),
        (
            REDIS,
            &broken,
            "name: x",
            Wanted::Error("no object of JSON, at line 1 column "),
        ),
        (
            REDIS,
            "secretstores.local.file",
            "name: x",
            Wanted::Error("secretsFile \"\" cannot be read"),
        ),
    ];
    check(&files, &rows);
}

#[test]
fn who_can_do_without() {
    let vault = "secretstores.hashicorp.vault";
    let tolerant = "type: pubsub.redis\n  ignoreErrors: true";
    let rows = [
        (
            REDIS,
            vault,
            "name: x",
            Wanted::Error("a secretstores.hashicorp.vault. Secrets are read"),
        ),
        (
            tolerant,
            vault,
            "name: x",
            Wanted::LeftOut("as its ignoreErrors says"),
        ),
        // Nobody asks for the secrets of these.
        (
            "type: bindings.kafka",
            vault,
            "name: x",
            Wanted::Empty("the value is empty"),
        ),
        (
            "type: state.redis",
            vault,
            "name: x",
            Wanted::Empty("the value is empty"),
        ),
        (
            "type: pubsub.kafka",
            vault,
            "name: x",
            Wanted::Empty("the value is empty"),
        ),
    ];
    check(&Files::new(&[]), &rows);
}
