//! Whose certificates are trusted. Certificates and their verification are the host's: no component can weaken them.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use hyper_rustls::ConfigBuilderExt as _;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};

use super::bundle::Bundle;

/// Whose certificates are trusted.
#[derive(Clone, Debug, Default)]
pub(crate) enum Trust {
    /// Anybody's: `insecure`.
    Anybody,
    /// Those of a bundle, instead of the system's.
    Bundle(Arc<Bundle>),
    #[default]
    System,
}

/// A PEM text without a single usable certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no certificate in PEM form in it")]
pub struct CertificatesError;

impl Trust {
    /// Trusts the certificate authorities of a PEM bundle. What is no certificate in it is passed over, as Go does.
    ///
    /// # Errors
    /// When none is left.
    pub(crate) fn bundle(pem: &[u8]) -> Result<Self, CertificatesError> {
        Bundle::of(pem.to_vec()).map(Self::Bundle)
    }

    /// As [`bundle`](Self::bundle), from a file.
    ///
    /// # Errors
    /// Also when it can't be read.
    pub(super) fn file(path: &Path) -> std::io::Result<Result<Self, CertificatesError>> {
        Ok(Bundle::in_file(path)?.map(Self::Bundle))
    }

    /// TLS 1.2 and later for HTTP/1.1. What is made here has sessions of its own: nobody else's are resumed.
    pub(super) fn client_config(&self) -> std::io::Result<ClientConfig> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(std::io::Error::other)?;
        let builder = match self {
            Self::Anybody => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Unverified(provider))),
            Self::Bundle(bundle) => builder.with_root_certificates(bundle.roots()),
            Self::System => {
                let system = match SYSTEM.get() {
                    Some(read) => read,
                    None => {
                        let read = builder.with_native_roots()?.with_no_client_auth();
                        SYSTEM.get_or_init(|| read)
                    }
                };
                let mut own = system.clone();
                own.resumption = Resumption::default();
                return Ok(own);
            }
        };
        Ok(builder.with_no_client_auth())
    }
}

/// The system's certificate authorities, read once: each store would have 300 kB of them otherwise. Not for use: whoever
/// shares a configuration shares its sessions.
static SYSTEM: OnceLock<ClientConfig> = OnceLock::new();

/// Takes any certificate: what `insecure` asks for. Who sits on the line can then read and change everything.
#[derive(Debug)]
struct Unverified(Arc<rustls::crypto::CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        // The signature of a key that nobody vouches for proves nothing.
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(feature = "gateway")]
#[cfg(test)]
mod tests {
    use rustls::ServerConfig;
    use rustls::pki_types::PrivateKeyDer;
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    use super::*;

    /// Whether a server with this certificate is trusted.
    async fn trusts(trust: &Trust, made: &rcgen::CertifiedKey<rcgen::KeyPair>) -> bool {
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let server = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let (near, far) = tokio::io::duplex(64 << 10);
        let serving = TlsAcceptor::from(Arc::new(server)).accept(far);
        let name = ServerName::try_from("store.test").unwrap();
        let client = Arc::new(trust.client_config().unwrap());
        let connecting = TlsConnector::from(client).connect(name, near);
        let (served, connected) = tokio::join!(serving, connecting);
        served.is_ok() && connected.is_ok()
    }

    #[tokio::test]
    async fn certificates_are_verified_unless_nobody_wants_it() {
        let certificate = |name: &str| rcgen::generate_simple_self_signed([name.to_owned()]);
        let (ours, other) = (
            certificate("store.test").unwrap(),
            certificate("other.test").unwrap(),
        );
        let bundle = Trust::bundle(ours.cert.pem().as_bytes()).unwrap();
        assert!(trusts(&bundle, &ours).await);
        assert!(!trusts(&bundle, &other).await);
        assert!(trusts(&Trust::Anybody, &ours).await);
        assert!(trusts(&Trust::Anybody, &other).await);
    }

    #[test]
    fn a_bundle_needs_a_certificate() {
        let key = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for pem in ["", "x", key] {
            assert!(Trust::bundle(pem.as_bytes()).is_err(), "{pem}");
        }
        let made = rcgen::generate_simple_self_signed(["a.test".to_owned()]).unwrap();
        let among = format!("# comment\n{key}{}", made.cert.pem());
        assert!(Trust::bundle(among.as_bytes()).is_ok());
    }
}
