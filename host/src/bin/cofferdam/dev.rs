//! `dev`: the embedded S3, DynamoDB and STS server, until Ctrl-C.
//!
//! `--json`, one line once it listens: `{"format_version", "url", "bucket", "table", "region", "access_key_id",
//! "secret_access_key", "backend": {"s3": {…}}}`.

use cofferdam::dev_store::{DevStore, DevStoreBuilder, Misbehaviour};
use serde_json::{Map, Value, json};

use crate::arguments::DevOptions;
use crate::failure::Failure;
use crate::hcl_text::{backend_block, export};
use crate::interrupt::ending;
use crate::output::{data, json};

/// The state's key in the block to paste.
const KEY: &str = "terraform.tfstate";

pub(crate) async fn run(options: DevOptions) -> Result<(), Failure> {
    let json_wanted = options.format.json;
    let broken = broken_promises(&options.misbehave);
    let kept = options.dir.as_ref().map_or_else(
        || "in memory".to_owned(),
        |path| format!("in {}", path.display()),
    );
    let ending = ending()?;
    let server = builder(options)
        .start()
        .await
        .map_err(|error| Failure::new("Cannot start the server", format!("{error}.")))?;
    if json_wanted {
        json(settings(&server))?;
    } else {
        data(instructions(&server, &kept, &broken).as_bytes())?;
    }
    ending.await;
    server.shutdown().await;
    Ok(())
}

fn builder(options: DevOptions) -> DevStoreBuilder {
    // It may run for days: no log of requests.
    let mut builder = DevStore::builder()
        .listen(options.listen)
        .bucket(options.bucket)
        .table(options.table)
        .versioning(options.versioning)
        .recording(false);
    for misbehaviour in options.misbehave {
        builder = builder.misbehave(misbehaviour);
    }
    if let Some(directory) = options.dir {
        builder = builder.directory(directory);
    }
    if let (Some(id), Some(secret)) = (options.access_key, options.secret_key) {
        builder = builder.credentials(id, secret);
    }
    builder
}

fn settings(server: &DevStore) -> Value {
    json!({
        "url": server.url(),
        "bucket": server.bucket(),
        "table": server.table(),
        "region": server.region(),
        "access_key_id": server.access_key_id(),
        "secret_access_key": server.secret_access_key(),
        "backend": { "s3": block(server) },
    })
}

fn instructions(server: &DevStore, kept: &str, broken: &str) -> String {
    let credentials = [
        export("AWS_ACCESS_KEY_ID", server.access_key_id()),
        export("AWS_SECRET_ACCESS_KEY", server.secret_access_key()),
    ];
    format!(
        "# S3, DynamoDB and STS for development at {url}, contents {kept}. Ctrl-C ends it.\n{broken}\n{block}\n\
         # Locks in DynamoDB too, with these in the block:\n\
         #   dynamodb_table = \"{table}\"\n\
         #   endpoints      = {{ s3 = \"{url}\", sts = \"{url}\", dynamodb = \"{url}\" }}\n\
         # Roles, with any name:\n\
         #   assume_role = {{ role_arn = \"arn:aws:iam::{account}:role/deploy\" }}\n\n{credentials}",
        url = server.url(),
        block = backend_block("s3", &block(server)),
        table = server.table(),
        account = server.account_id(),
        credentials = credentials.concat(),
    )
}

/// A line about what is not to be relied on, if there is anything.
fn broken_promises(misbehaviours: &[Misbehaviour]) -> String {
    if misbehaviours.is_empty() {
        return String::new();
    }
    let names: Vec<_> = misbehaviours.iter().map(Misbehaviour::to_string).collect();
    format!(
        "# It misbehaves: {}. Keep nothing here.\n",
        names.join(", ")
    )
}

/// Without the credentials: they belong into the environment, not into a file that is committed. With STS: what the
/// block needs elsewhere needs not be skipped here.
fn block(server: &DevStore) -> Map<String, Value> {
    let mut block = match server.backend_block(KEY) {
        Value::Object(block) => block,
        _ => Map::new(),
    };
    block.retain(|name, _| {
        !matches!(name.as_str(), "access_key" | "secret_key") && !name.starts_with("skip_")
    });
    let url = server.url();
    block.insert("endpoints".to_owned(), json!({ "s3": url, "sts": url }));
    block
}
