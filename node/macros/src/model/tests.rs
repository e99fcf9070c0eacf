use super::*;

fn read(options: &str, item: &str) -> Result<Model> {
    let options = Options::parse(options.parse().unwrap())?;
    Model::read(options, &mut syn::parse_str(item).unwrap())
}

#[test]
fn a_full_actor() {
    let text = "impl Counter {
        const LIMIT: u8 = 3;
        /// Adds.
        async fn add(&mut self, cx: &ghostlight::Turn, by: i64) -> Result<i64, Overflow> { unreachable!() }
        fn set(&mut self, a: Vec<(u8, String)>, b: Option<std::string::String>) {}
        #[read] fn get(&self) -> i64 { 0 }
        #[read] async fn list(&self, cx: &ReadTurn) -> Vec<i64> { vec![] }
        fn helper(n: &str) -> Self { unreachable!() }
    }";
    let mut item: ItemImpl = syn::parse_str(text).unwrap();
    let model = Model::read(Options::parse(TokenStream::new()).unwrap(), &mut item).unwrap();
    assert!(
        !item.to_token_stream().to_string().contains("read]"),
        "ours is taken off"
    );
    let shown: Vec<String> = model
        .methods
        .iter()
        .map(|m| {
            let reply = if let Reply::Result(..) = m.reply {
                "result"
            } else {
                "value"
            };
            format!(
                "{} {:?} {:?} {:?} ({}) {reply} docs={}",
                m.name,
                m.access,
                m.style,
                m.context,
                m.arguments_text(),
                m.docs.len()
            )
        })
        .collect();
    assert_eq!(model.type_name, "Counter");
    assert_eq!(
        shown,
        [
            "add Write Async Turn (by: i64) result docs=1",
            "set Write Plain None (a: Vec<(u8, String)>, b: Option<std::string::String>) value docs=0",
            "get Read Plain None () value docs=0",
            "list Read Async ReadTurn () value docs=0",
        ]
    );
}

#[test]
fn options() {
    let one = "impl C { #[read] fn get(&self) -> i64 { 0 } }";
    let model = read(
        "name = \"counter\", version = 3, upgrade = C::older, crate = core",
        one,
    )
    .unwrap();
    assert_eq!(
        (model.type_name.as_str(), model.options.version),
        ("counter", 3)
    );
    assert!(model.options.upgrade.is_some());
    for (options, wanted) in [
        ("name = \"a#b\"", "an actor type has 1 to 1024 bytes"),
        ("name = \"\"", "an actor type has 1 to 1024 bytes"),
        ("version = 0", "versions count from 1"),
        ("colour = 1", "unknown option"),
    ] {
        let error = read(options, one).err().unwrap().to_string();
        assert!(error.contains(wanted), "{options}: {error}");
    }
}

#[test]
fn refusals_name_the_way_out() {
    for (method, wanted) in [
        ("fn get(&self) -> i64 { 0 }", "mark this method `#[read]`"),
        ("#[read] fn get(&mut self) {}", "takes `&self`"),
        ("fn eat(self) {}", "takes `&mut self`"),
        ("fn eat(self: Box<Self>) {}", "takes `&mut self`"),
        (
            "#[read] fn get(&self, cx: &Turn) {}",
            "takes `cx: &ReadTurn`",
        ),
        ("#[read(fast)] fn get(&self) {}", "takes no options"),
        (
            "fn add(&mut self, by: &str) {}",
            "arguments arrive by value",
        ),
        (
            "fn add(&mut self, by: i64, cx: &Turn) {}",
            "right after the receiver",
        ),
        ("fn add(&mut self, (a, b): (i64, i64)) {}", "a plain name"),
        ("fn add<T>(&mut self, by: T) {}", "no generics"),
        ("fn add(&mut self, by: impl Into<i64>) {}", "name the type"),
        ("fn add(&mut self, other: Self) {}", "instead of `Self`"),
        ("fn add(&mut self) -> Result<i64> { Ok(0) }", "in full"),
        ("fn add(&mut self) -> &str { \"\" }", "leaves by value"),
        ("", "at least one method"),
    ] {
        let error = read("", &format!("impl C {{ {method} }}"))
            .err()
            .unwrap()
            .to_string();
        assert!(error.contains(wanted), "{method}: {error}");
    }
    for (item, wanted) in [
        (
            "impl Foo for C { fn add(&mut self) {} }",
            "not on a trait's",
        ),
        ("impl<T> C<T> { fn add(&mut self) {} }", "no generics"),
        ("impl a::C { fn add(&mut self) {} }", "bare name"),
        ("impl [u8] { fn add(&mut self) {} }", "is a struct"),
    ] {
        let error = read("", item).err().unwrap().to_string();
        assert!(error.contains(wanted), "{item}: {error}");
    }
}

#[test]
fn all_mistakes_are_told_at_once() {
    let error = read("", "impl C { fn a(&self) {} fn b(self) {} }")
        .err()
        .unwrap();
    assert_eq!(error.into_iter().count(), 2);
}

#[test]
fn events() {
    let text = "impl C {
        #[on_event(topic = \"orders\", id = order.of)]
        #[on_event(topic = \"more\", pubsub = \"bus\", id = format!(\"{}-x\", order.of))]
        fn take(&mut self, order: Order) {}
    }";
    let model = read("", text).unwrap();
    let shown: Vec<String> = model.methods[0]
        .events
        .iter()
        .map(|event| {
            let pubsub = event.pubsub.as_ref().map(LitStr::value);
            format!(
                "{} {pubsub:?} {}",
                event.topic.value(),
                event.id.to_token_stream()
            )
        })
        .collect();
    assert_eq!(
        shown,
        [
            "orders None order . of",
            "more Some(\"bus\") format ! (\"{}-x\" , order . of)"
        ]
    );
    for (attribute, method, words) in [
        ("id = o", "fn a(&mut self, o: u8) {}", "name the topic"),
        ("topic = \"t\"", "fn a(&mut self, o: u8) {}", "which actor"),
        ("topic = \"\", id = o", "fn a(&mut self, o: u8) {}", "empty"),
        (
            "topic = \"t\", id = 1, x = 2",
            "fn a(&mut self, o: u8) {}",
            "unknown option",
        ),
        (
            "topic = \"t\", id = 1",
            "fn a(&mut self) {}",
            "has an argument",
        ),
        (
            "topic = \"t\", id = 1",
            "#[read] fn a(&self, o: u8) {}",
            "writes",
        ),
    ] {
        let text = format!("impl C {{ #[on_event({attribute})] {method} }}");
        let error = read("", &text).err().expect("it is refused");
        assert!(error.to_string().contains(words), "{attribute}: {error}");
    }
}
