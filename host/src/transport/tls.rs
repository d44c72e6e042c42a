//! Whose certificates are trusted. Certificates and their verification are the host's: no component can weaken them.

use std::sync::Arc;

use hyper_rustls::ConfigBuilderExt as _;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

/// Whose certificates are trusted.
#[derive(Clone, Debug, Default)]
pub(crate) enum Trust {
    /// Anybody's: `insecure`.
    Anybody,
    /// Those of a bundle in PEM form, instead of the system's. Parsed with the first TLS connection: a bundle with all
    /// public authorities takes as long as half a start.
    Bundle(Arc<[u8]>),
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
        let mut roots = RootCertStore::empty();
        let usable = certificates(pem).any(|certificate| roots.add(certificate).is_ok());
        usable
            .then(|| Self::Bundle(pem.into()))
            .ok_or(CertificatesError)
    }

    /// TLS 1.2 and later for HTTP/1.1.
    pub(super) fn client_config(&self) -> std::io::Result<ClientConfig> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(std::io::Error::other)?;
        let builder = match self {
            Self::Anybody => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Unverified(provider))),
            Self::Bundle(pem) => {
                let mut roots = RootCertStore::empty();
                roots.add_parsable_certificates(certificates(pem));
                builder.with_root_certificates(roots)
            }
            Self::System => builder.with_native_roots()?,
        };
        Ok(builder.with_no_client_auth())
    }
}

fn certificates(pem: &[u8]) -> impl Iterator<Item = CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem).filter_map(Result::ok)
}

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
