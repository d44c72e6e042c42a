//! Credentials of a container in ECS or EKS, from the endpoint that the environment names.
//!
//! Without the rules for its host, whoever sets one variable could have a token of the cluster sent over plain HTTP to
//! any machine.

use std::net::IpAddr;
use std::time::Duration;

use serde_json::Value;
use zeroize::Zeroizing;

use crate::config::ServiceLocation;
use crate::config::endpoint::Endpoint;
use crate::platform::Method;

use super::wire::{self, Call, Effort, Wire, take_text};
use super::{ContainerAddress, ContainerArguments, Credentials, ProviderError};

/// Where ECS answers a relative URI.
const ECS: &str = "http://169.254.170.2";

/// The endpoint is on this machine or beside it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The endpoint may have to ask STS first.
const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(15);

/// Asks the endpoint.
pub(super) fn credentials(
    wire: Wire<'_>,
    arguments: &ContainerArguments,
    attempts: u32,
) -> Result<Credentials, ProviderError> {
    let (place, path) = address(&arguments.address).map_err(ProviderError::new)?;
    let mut headers = vec![wire::header("accept", "application/json")];
    let token = token(wire, arguments)?;
    if let Some(token) = &token {
        headers.push(wire::header("authorization", token));
    }
    let secret = token.as_ref().map_or("", |token| token.as_str());
    let secrets = [secret, secret.strip_prefix("Bearer ").unwrap_or_default()];
    let call = Call {
        operation: "container credentials",
        method: Method::Get,
        place: &place,
        path_and_query: &path,
        headers,
        body: None,
        signer: None,
        secrets: &secrets,
        effort: Effort {
            connect: CONNECT_TIMEOUT,
            first_byte: FIRST_BYTE_TIMEOUT,
            ..Effort::usual(attempts)
        },
    };
    let reply = wire.ask(&call)?;
    let mut object = reply.json().unwrap_or_default();
    read(&mut object).map_err(|what| wire::malformed(&call, what))
}

/// Credentials as containers and instances have them; they expire only where it says so.
pub(super) fn read(object: &mut Value) -> Result<Credentials, &'static str> {
    let mut text = |name| take_text(object, name);
    let (id, secret, token) = (text("AccessKeyId"), text("SecretAccessKey"), text("Token"));
    let mut credentials = wire::credentials(id, secret, token)?;
    if let Some(date) = text("Expiration") {
        credentials.expires_at = Some(wire::seconds(&date).ok_or("expiration")?);
    }
    credentials.account_id = text("AccountId");
    Ok(credentials)
}

/// The authorization token, as it stands there: a file's comes first, and is read anew each time.
fn token(
    wire: Wire<'_>,
    arguments: &ContainerArguments,
) -> Result<Option<Zeroizing<String>>, ProviderError> {
    let (token, origin) = match (&arguments.token_file, &arguments.token) {
        (Some(path), _) => {
            let bytes = wire.platform.read_file(path);
            let bytes =
                bytes.map_err(|refusal| wire::unreadable("authorization token", path, &refusal))?;
            let bytes = Zeroizing::new(bytes);
            let text = String::from_utf8_lossy(&bytes).into_owned();
            (Zeroizing::new(text), path.as_str())
        }
        (None, Some(token)) => (
            Zeroizing::new(token.expose().to_owned()),
            "AWS_CONTAINER_AUTHORIZATION_TOKEN",
        ),
        (None, None) => return Ok(None),
    };
    let problem = if token.contains(['\r', '\n']) {
        "contains an invalid newline sequence"
    } else if !wire::is_header_value(&token) {
        "does not fit into a header"
    } else {
        return Ok((!token.is_empty()).then_some(token));
    };
    Err(ProviderError::new(format!(
        "container credentials: the authorization token in {origin} {problem}"
    )))
}

/// Place, and path with query.
fn address(address: &ContainerAddress) -> Result<(ServiceLocation, String), String> {
    let (name, url) = match address {
        ContainerAddress::Full(url) => ("AWS_CONTAINER_CREDENTIALS_FULL_URI", url.clone()),
        ContainerAddress::Relative(path) if path.starts_with('/') => (
            "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
            format!("{ECS}{path}"),
        ),
        ContainerAddress::Relative(_) => {
            return Err(
                "container credentials: AWS_CONTAINER_CREDENTIALS_RELATIVE_URI must start with /"
                    .to_owned(),
            );
        }
    };
    let refused = |why: &str| format!("container credentials: {name} cannot be used: {why}");
    let url = url.split('#').next().unwrap_or_default();
    let host = url.find("://").map_or(0, |place| place + 3);
    let rest = &url[host..];
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    if authority.contains('@') {
        return Err(refused("it must not hold a user name"));
    }
    let endpoint = Endpoint::parse(&url[..host + end]).map_err(|why| refused(&why))?;
    if !path.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(refused("special characters must be percent-encoded"));
    }
    if endpoint.scheme == "http" && !is_allowed(&endpoint.host) {
        return Err(refused(&format!(
            "invalid endpoint host, {:?}, only loopback/ecs/eks hosts are allowed over http",
            endpoint.host
        )));
    }
    let place = ServiceLocation {
        scheme: endpoint.scheme.to_owned(),
        authority: endpoint.authority(),
        path: "/".to_owned(),
        region: String::new(),
    };
    let slash = if path.starts_with('/') { "" } else { "/" };
    Ok((place, format!("{slash}{path}")))
}

/// Whether a token may go there over plain HTTP. Other names are not looked up here, so that none can be trusted.
fn is_allowed(host: &str) -> bool {
    match host.trim_matches(['[', ']']).parse() {
        Ok(IpAddr::V4(address)) => {
            address.is_loopback() || matches!(address.octets(), [169, 254, 170, 2 | 23])
        }
        Ok(IpAddr::V6(address)) => {
            address.is_loopback() || address.segments() == [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23]
        }
        Err(_) => host == "localhost",
    }
}
