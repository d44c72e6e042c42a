//! What an operator sees of requests to the gateway: the spans that `docs/observability.md` promises, and nothing of what
//! the requests carry.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use cofferdam::dev_store::DevStore;
use cofferdam::gateway::{Gateway, Token};
use cofferdam::{Limits, Tenant};
use cofferdam_canaries::{Patterns, SECRET_ACCESS_KEY, STATE, TOKEN};
use cofferdam_tests::HttpBackend;
use cofferdam_tests::tools::workspace_root;
use serde_json::json;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;

use crate::{KEY, keep_another_subscriber, open};

/// Everything that was traced, at every level and by every library.
#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Seen>>);

#[derive(Default)]
struct Seen {
    spans: Vec<Span>,
    events: Vec<String>,
}

#[derive(Clone, Debug)]
struct Span {
    name: &'static str,
    /// Names of all fields, recorded or not.
    promised: BTreeSet<&'static str>,
    fields: Fields,
    /// Where the span around it stands.
    parent: Option<usize>,
}

impl Span {
    fn is(&self, field: &str, value: &str) -> bool {
        self.fields.0.get(field).is_some_and(|it| it == value)
    }

    /// What is recorded, once it is clear that the time is a number.
    fn without_times(&self) -> BTreeMap<&'static str, String> {
        let mut fields = self.fields.0.clone();
        let time = fields.remove("milliseconds");
        assert!(time.is_some_and(|it| it.parse::<u64>().is_ok()), "{self:?}");
        fields
    }
}

#[derive(Clone, Debug, Default)]
struct Fields(BTreeMap<&'static str, String>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }
}

/// Where a span stands among those that were seen.
struct Place(usize);

impl<S: Subscriber + for<'s> LookupSpan<'s>> Layer<S> for Captured {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let span = context.span(id).unwrap();
        let parent = span.parent();
        let parent = parent.and_then(|it| it.extensions().get::<Place>().map(|place| place.0));
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        let metadata = attributes.metadata();
        let mut seen = self.0.lock().unwrap();
        span.extensions_mut().insert(Place(seen.spans.len()));
        seen.spans.push(Span {
            name: metadata.name(),
            promised: metadata.fields().iter().map(|it| it.name()).collect(),
            fields,
            parent,
        });
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let span = context.span(id).unwrap();
        let place = span.extensions().get::<Place>().unwrap().0;
        let fields = &mut self.0.lock().unwrap().spans[place].fields;
        values.record(fields);
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let text = format!("{} {fields:?}", event.metadata().target());
        self.0.lock().unwrap().events.push(text);
    }
}

/// The first columns of the tables of fields in the section on spans: of a call of a store, and of a request.
fn documented() -> (BTreeSet<String>, BTreeSet<String>) {
    let text = std::fs::read_to_string(workspace_root().join("docs/observability.md")).unwrap();
    let (_, spans) = text.split_once("## Spans").unwrap();
    let (spans, _) = spans.split_once("\n## ").unwrap();
    let mut tables = spans.split("| field | what |").skip(1).map(|table| {
        let cells = table.lines().filter_map(|line| line.strip_prefix("| `"));
        let names = cells.map(|it| it.split('`').next().unwrap().to_owned());
        names.collect()
    });
    (tables.next().unwrap(), tables.next().unwrap())
}

/// The life of a state in the workspace `dev`, with some refusals. Gives what was traced, and the size of the state.
async fn life() -> (Seen, usize) {
    keep_another_subscriber();
    let captured = Captured::default();
    let subscriber = tracing_subscriber::registry().with(captured.clone());
    // The runtime has this thread only.
    let _subscriber = tracing::subscriber::set_default(subscriber);

    let server = DevStore::builder().credentials("AKIACANARY", SECRET_ACCESS_KEY);
    let server = server.start().await.unwrap();
    let tenant = Tenant::new("acme");
    let store = open(server.backend_block(KEY), &tenant, Limits::default()).await;
    let home = tempfile::tempdir().unwrap();
    let token = home.path().join("token");
    std::fs::write(&token, TOKEN).unwrap();
    let gateway = Gateway::builder(Arc::new(store))
        .listen(([127, 0, 0, 1], 0).into())
        .token(Some(Token::from_file(token).unwrap()))
        .start()
        .await
        .unwrap();
    let client = HttpBackend::new(gateway.url("dev"), Some(TOKEN));
    let stranger = HttpBackend::new(gateway.url("dev"), Some("no-token"));
    let (lock, late) = (
        HttpBackend::record("the-lock", "ann@desk"),
        HttpBackend::record("late", "bob@desk"),
    );
    let state = json!({ "version": 4, "serial": 1, "lineage": "l", "secret": STATE }).to_string();

    let answers = [
        stranger.read().await,
        client.lock(&lock).await,
        client.read().await,
        client.write(state.clone().into(), "the-lock").await,
        client.lock(&late).await,
        client.read().await,
        client.unlock(&lock).await,
    ];
    gateway.shutdown().await;
    let statuses = answers.map(|answer| answer.unwrap().0.as_u16());
    assert_eq!(statuses, [401, 200, 404, 200, 423, 200, 200]);
    let seen = std::mem::take(&mut *captured.0.lock().unwrap());
    (seen, state.len())
}

#[tokio::test]
async fn every_request_to_the_gateway_is_a_span_around_those_of_its_store_and_none_tells_a_secret()
{
    let (seen, size) = life().await;
    let (of_store, of_gateway) = documented();
    let of = |name: &'static str| seen.spans.iter().filter(move |span| span.name == name);
    for (name, documented) in [("state_store", of_store), ("request", of_gateway)] {
        assert!(of(name).count() > 0, "there is no span {name}");
        for span in of(name) {
            assert!(
                span.promised.iter().copied().eq(documented.iter()),
                "{span:?}"
            );
        }
    }

    // Requests: what was asked, and how it ended.
    let requests: Vec<_> = of("request").map(Span::without_times).collect();
    let request = |fields: &[(&'static str, &str)]| {
        let quoted = fields
            .iter()
            .map(|(name, value)| (*name, (*value).to_owned()));
        quoted.collect::<BTreeMap<_, _>>()
    };
    let dev = ("workspace", r#""dev""#);
    let the_lock = ("lock", r#""the-lock""#);
    let expected = [
        request(&[("method", "GET"), ("status", "401")]),
        request(&[
            ("method", "LOCK"),
            dev,
            the_lock,
            ("who", r#""ann@desk""#),
            ("status", "200"),
        ]),
        request(&[("method", "GET"), dev, ("status", "404")]),
        request(&[("method", "POST"), dev, the_lock, ("status", "200")]),
        request(&[
            ("method", "LOCK"),
            dev,
            ("lock", r#""late""#),
            ("who", r#""bob@desk""#),
            ("status", "423"),
        ]),
        request(&[("method", "GET"), dev, ("status", "200")]),
        request(&[("method", "UNLOCK"), dev, the_lock, ("status", "200")]),
    ];
    assert_eq!(requests, expected);

    // Each with the calls of the store inside, and each of those with all that is promised.
    let size = size.to_string();
    let inside = |operation: &str, method: &str, bytes: Option<&str>, outcome: &str| {
        let wanted = |span: &&Span| {
            let parent = span.parent.map(|place| &seen.spans[place]);
            span.is("operation", &format!("{operation:?}"))
                && parent.is_some_and(|it| it.name == "request" && it.is("method", method))
                && span.is("outcome", &format!("{outcome:?}"))
                && span.fields.0.get("bytes").map(String::as_str) == bytes
        };
        assert_eq!(
            of("state_store").filter(wanted).count(),
            1,
            "{operation}: {:#?}",
            seen.spans
        );
    };
    inside("lock", "LOCK", None, "ok");
    inside("lock", "LOCK", None, "locked");
    inside("read", "GET", None, "ok");
    inside("read", "GET", Some(&size), "ok");
    inside("write", "POST", Some(&size), "ok");
    inside("unlock", "UNLOCK", None, "ok");
    for span in of("state_store") {
        assert!(
            span.is("tenant", r#""acme""#) && span.is("unknown", "false"),
            "{span:?}"
        );
        assert!(span.is("workspace", r#""dev""#), "{span:?}");
        let duration = &span.fields.0["duration_us"];
        assert!(duration.parse::<u64>().is_ok(), "{span:?}");
    }

    let secrets = Patterns::chosen().unwrap();
    let told = format!("{:?} {:?}", seen.spans, seen.events);
    assert_eq!(secrets.in_text(&told), []);
    // If one were there, it would be found.
    assert!(!secrets.in_text(&format!("{told} {STATE}")).is_empty());
}
