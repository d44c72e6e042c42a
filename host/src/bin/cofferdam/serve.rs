//! `serve`: the gateway for Terraform's `http` backend, until Ctrl-C.
//!
//! `--json`, one line once it listens: `{"format_version", "workspace", "backend": {"http": {…}}, "password" or
//! null}`.

use std::sync::Arc;

use cofferdam::gateway::{Gateway, RunningGateway, Token};
use cofferdam::{ErrorCode, StateStore, Store};
use serde_json::{Map, Value, json};

use crate::arguments::ServeOptions;
use crate::failure::Failure;
use crate::hcl_text::{backend_block, export};
use crate::interrupt::ending;
use crate::lock_safety;
use crate::locking::no_locking;
use crate::output::{data, json};
use crate::session::Session;

/// What a client gives as user name; the gateway takes any.
pub(crate) const USER: &str = "cofferdam";

pub(crate) async fn run(session: &Session, options: ServeOptions) -> Result<(), Failure> {
    let workspace = session.workspace()?;
    let token = token(&options)?;
    let store = session.open().await?;
    let locks = locks(session, &store, &workspace).await?;
    let refuse_locks = lock_safety::at_start(session).await?;
    let mut builder = Gateway::builder(Arc::new(store))
        .listen(options.listen)
        .token(token.clone())
        .allow_force_unlock(options.allow_force_unlock)
        .allow_no_locking(session.global.allow_no_locking)
        .refuse_locks(refuse_locks);
    if let (Some(certificate), Some(key)) = (options.tls_cert, options.tls_key) {
        builder = builder.tls(certificate, key);
    }
    for name in options.allow_host {
        builder = builder.allow_host(name);
    }
    let ending = ending()?;
    let gateway = builder
        .start()
        .await
        .map_err(|error| Failure::new("Cannot start the gateway", format!("{error}.")))?;
    // A token out of a file is known to those who need it.
    let password = token.filter(|_| options.token_file.is_none());
    let block = http_block(&gateway, &workspace, locks, !options.no_auth);
    if options.format.json {
        json(json!({
            "workspace": workspace,
            "backend": { "http": block },
            "password": password.as_ref().map(Token::expose),
        }))?;
    } else {
        let mut text = format!(
            "# Serving the states at {}; other workspaces under their own names. Ctrl-C ends it.\n\n{}",
            gateway.url(&workspace),
            backend_block("http", &block),
        );
        if let Some(password) = &password {
            text += &format!("\n{}", export("TF_HTTP_PASSWORD", password.expose()));
        }
        data(text.as_bytes())?;
    }
    ending.await;
    gateway.shutdown().await;
    Ok(())
}

/// Whether there are locks to be had. The question also shows whether the store can be reached, before a client does.
pub(crate) async fn locks(
    session: &Session,
    store: &Store,
    workspace: &str,
) -> Result<bool, Failure> {
    match store.holders(workspace).await {
        Ok(_) => Ok(true),
        Err(error) if error.code() == Some(ErrorCode::Unsupported) => {
            match session.global.allow_no_locking {
                true => Ok(false),
                false => Err(no_locking(&error)),
            }
        }
        Err(error) => Err(Failure::store("Cannot use the backend", &error)),
    }
}

fn token(options: &ServeOptions) -> Result<Option<Token>, Failure> {
    if options.no_auth {
        return Ok(None);
    }
    let Some(path) = &options.token_file else {
        return Ok(Some(Token::generate()));
    };
    match Token::from_file(path) {
        Ok(token) => Ok(Some(token)),
        Err(error) => Err(Failure::new("Cannot read the token", format!("{error}."))),
    }
}

fn http_block(
    gateway: &RunningGateway,
    workspace: &str,
    locks: bool,
    authenticated: bool,
) -> Map<String, Value> {
    let url = Value::from(gateway.url(workspace));
    let mut block = Map::new();
    block.insert("address".to_owned(), url.clone());
    if locks {
        block.insert("lock_address".to_owned(), url.clone());
        block.insert("unlock_address".to_owned(), url);
    }
    if authenticated {
        block.insert("username".to_owned(), USER.into());
    }
    block
}
