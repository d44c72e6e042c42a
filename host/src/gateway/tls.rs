//! The gateway's own TLS: a certificate chain and its key out of two files.
//!
//! Without it states could not leave the machine: the gateway does not listen on a network in the clear.

use std::{path::Path, sync::Arc};

use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject as _},
    },
};
use tokio_rustls::TlsAcceptor;

use super::GatewayError;

/// Accepts TLS 1.2 and later with this certificate.
pub(super) fn acceptor(certificate: &Path, key: &Path) -> Result<TlsAcceptor, GatewayError> {
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| unusable(certificate, unreadable(&error, "certificate")))?;
    if chain.is_empty() {
        return Err(unusable(
            certificate,
            "it holds no certificate in PEM form".to_owned(),
        ));
    }
    let secret = PrivateKeyDer::from_pem_file(key)
        .map_err(|error| unusable(key, unreadable(&error, "private key")))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(certificate, error.to_string()))?
        .with_no_client_auth()
        .with_single_cert(chain, secret)
        .map_err(|error| {
            unusable(
                certificate,
                format!("with the key {}: {error}", key.display()),
            )
        })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Says what is wrong without a byte of the file: the key's could be among them.
fn unreadable(error: &pem::Error, wanted: &str) -> String {
    match error {
        pem::Error::Io(error) => error.to_string(),
        pem::Error::NoItemsFound => format!("it holds no {wanted} in PEM form"),
        _ => "it is not valid PEM".to_owned(),
    }
}

fn unusable(path: &Path, reason: String) -> GatewayError {
    GatewayError::Certificate {
        path: path.to_owned(),
        reason,
    }
}
