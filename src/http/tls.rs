//! TLS settings: the listener's certificate and key, and whom a client trusts.
//!
//! The crypto provider is ring, named here and nowhere else; nothing is installed process-wide.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, ServerConfig,
    SignatureScheme,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

/// Whom a client trusts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// The system's roots (`SSL_CERT_FILE` and `SSL_CERT_DIR` are heeded).
    System,
    /// The authorities in a PEM file, and no others.
    Authorities(PathBuf),
    /// One certificate, whatever its name, issuer and dates.
    Pinned(Pin),
}

/// SHA-256 of the one certificate (DER) that is trusted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Pin([u8; 32]);

/// Why TLS could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A PEM file could not be read.
    #[error("can't read {what} from {}", path.display())]
    Pem {
        /// `certificates` or `a private key`.
        what: &'static str,
        /// Where from.
        path: PathBuf,
        /// Why.
        #[source]
        source: rustls_pki_types::pem::Error,
    },
    /// A PEM file holds no certificate.
    #[error("{} holds no certificate; it must be PEM (`-----BEGIN CERTIFICATE-----`)", path.display())]
    NoCertificate {
        /// Which file.
        path: PathBuf,
    },
    /// Certificate and key do not fit, or one of them is broken.
    #[error("the certificate {} and the key {} can't be used", cert.display(), key.display())]
    Unfit {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// Why.
        #[source]
        source: Error,
    },
    /// A certificate can't be an authority.
    #[error("a certificate in {} can't be an authority", path.display())]
    Authority {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Error,
    },
    /// The system has no roots.
    #[error(
        "the system has no root certificates ({reason}); name some with a CA file, or pin the certificate"
    )]
    NoRoots {
        /// What was tried.
        reason: String,
    },
    /// The settings do not work out.
    #[error("TLS can't be set up")]
    Setup(#[source] Error),
}

/// Why a text is no [`Pin`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a SHA-256 fingerprint: 64 hex digits, colons allowed, `sha256:` before it allowed"
)]
pub struct PinError(String);

/// A listener's certificate chain and key, which can be changed while it serves: handshakes from then on see the new ones,
/// connections that are open stay as they are.
#[derive(Debug)]
pub struct Identity {
    current: ArcSwap<CertifiedKey>,
}

/// Reads a listener's certificate chain and key, both PEM. ALPN offers `h2` and `http/1.1`.
///
/// # Errors
/// See [`TlsError`].
pub fn server_config(cert: &Path, key: &Path) -> Result<Arc<ServerConfig>, TlsError> {
    serve_as(Arc::new(Identity::read(cert, key)?))
}

/// Makes a listener's settings, with an identity that may change. ALPN offers `h2` and `http/1.1`.
///
/// # Errors
/// See [`TlsError`].
pub fn serve_as(identity: Arc<Identity>) -> Result<Arc<ServerConfig>, TlsError> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Setup)?
        .with_no_client_auth()
        .with_cert_resolver(identity);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Makes a client's settings. ALPN is left to [`Client`](crate::http::client::Client).
///
/// # Errors
/// See [`TlsError`].
pub fn client_config(trust: &Trust) -> Result<Arc<ClientConfig>, TlsError> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Setup)?;
    let roots = match trust {
        Trust::System => system_roots()?,
        Trust::Authorities(path) => authorities(path)?,
        Trust::Pinned(pin) => {
            let verifier = PinVerifier { pin: *pin, provider: provider() };
            let config = builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
            return Ok(Arc::new(config.with_no_client_auth()));
        }
    };
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
        .build()
        .map_err(|error| TlsError::NoRoots { reason: error.to_string() })?;
    Ok(Arc::new(builder.with_webpki_verifier(verifier).with_no_client_auth()))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let unreadable = |source| TlsError::Pem { what: "certificates", path: path.to_owned(), source };
    let found: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<_, _>>)
        .map_err(unreadable)?;
    if found.is_empty() {
        Err(TlsError::NoCertificate { path: path.to_owned() })
    } else {
        Ok(found)
    }
}

fn authorities(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in read_certificates(path)? {
        roots
            .add(certificate)
            .map_err(|source| TlsError::Authority { path: path.to_owned(), source })?;
    }
    Ok(roots)
}

fn system_roots() -> Result<RootCertStore, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // A system's store may hold certificates that are too old to parse: they are left out.
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let reasons: Vec<_> = found.errors.iter().map(ToString::to_string).collect();
        let reason = if reasons.is_empty() { "none found".to_owned() } else { reasons.join("; ") };
        return Err(TlsError::NoRoots { reason });
    }
    Ok(roots)
}

/// Trusts one certificate by its hash; the peer must still prove that it has the key.
#[derive(Debug)]
struct PinVerifier {
    pin: Pin,
    provider: Arc<CryptoProvider>,
}

// === impl Identity ===

impl Identity {
    /// Reads a certificate chain and its key, both PEM.
    ///
    /// # Errors
    /// See [`TlsError`].
    pub fn read(cert: &Path, key: &Path) -> Result<Self, TlsError> {
        let chain = read_certificates(cert)?;
        let private = PrivateKeyDer::from_pem_file(key).map_err(|source| TlsError::Pem {
            what: "a private key",
            path: key.to_owned(),
            source,
        })?;
        let certified = CertifiedKey::from_der(chain, private, &provider()).map_err(|source| {
            TlsError::Unfit { cert: cert.to_owned(), key: key.to_owned(), source }
        })?;
        Ok(Self { current: ArcSwap::from_pointee(certified) })
    }

    /// Becomes another; true when its certificates differ from those before.
    pub fn become_other(&self, other: Self) -> bool {
        let new = other.current.into_inner();
        let old = self.current.swap(Arc::clone(&new));
        old.cert != new.cert
    }
}

impl ResolvesServerCert for Identity {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }
}

// === impl Pin ===

impl Pin {
    /// Returns the pin of a certificate.
    #[must_use]
    pub fn of(certificate: &CertificateDer<'_>) -> Self {
        let suite = ring::cipher_suite::TLS13_AES_128_GCM_SHA256;
        let mut pin = [0; 32];
        if let Some(suite) = suite.tls13() {
            let hash = suite.common.hash_provider.hash(certificate);
            pin.copy_from_slice(&hash.as_ref()[..32]);
        }
        Self(pin)
    }

    /// Reads the pin of the first certificate in a PEM file.
    ///
    /// # Errors
    /// The file can't be read or holds no certificate.
    pub fn of_file(path: &Path) -> Result<Self, TlsError> {
        let certificates = read_certificates(path)?;
        certificates
            .first()
            .map(Self::of)
            .ok_or_else(|| TlsError::NoCertificate { path: path.to_owned() })
    }
}

impl FromStr for Pin {
    type Err = PinError;

    fn from_str(text: &str) -> Result<Self, PinError> {
        let bad = || PinError(text.to_owned());
        let digits: Vec<u8> = text
            .strip_prefix("sha256:")
            .unwrap_or(text)
            .chars()
            .filter(|c| *c != ':')
            .map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
            .collect::<Option<_>>()
            .ok_or_else(bad)?;
        let bytes: Vec<u8> =
            digits.chunks(2).map(|pair| pair.iter().fold(0, |n, d| n << 4 | d)).collect();
        if digits.len() == 64 { bytes.try_into().map(Self).map_err(|_| bad()) } else { Err(bad()) }
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

// === impl PinVerifier ===

impl ServerCertVerifier for PinVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if Pin::of(end_entity) == self.pin {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_are_read_in_all_usual_forms() {
        let plain = "00".repeat(31) + "fF";
        let colons = ["00"; 31].join(":") + ":ff";
        for text in [plain.clone(), format!("sha256:{plain}"), colons] {
            let pin: Pin = text.parse().unwrap();
            assert_eq!(format!("{pin:?}"), format!("sha256:{}ff", "00".repeat(31)));
        }
        for text in ["", "sha256:", "00", &"0".repeat(63), &"0".repeat(65), &"g".repeat(64)] {
            assert!(text.parse::<Pin>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_missing_or_wrong_file_is_named() {
        let missing = client_config(&Trust::Authorities("/no/such.pem".into())).unwrap_err();
        assert!(missing.to_string().contains("/no/such.pem"), "{missing}");
        let folder = tempfile::tempdir().unwrap();
        let text = folder.path().join("text.pem");
        std::fs::write(&text, "not PEM").unwrap();
        let empty = server_config(&text, &text).unwrap_err();
        assert!(empty.to_string().contains("holds no certificate"), "{empty}");
    }
}
