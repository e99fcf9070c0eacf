//! Certificates from the cluster key: one certificate authority, the same on every node; one leaf a
//! start.
//!
//! TLS 1.3 with mandatory client certificates: whoever cannot show a leaf of this authority is
//! refused before the first frame. Leaves are backdated and long-lived, so that a clock that jumps
//! breaks nothing.

use std::sync::Arc;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rand::Rng;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ED25519, SerialNumber, date_time_ymd,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use super::key::ClusterKey;

/// The name every leaf carries; the cluster is told apart by its key, the node by its `Hello`.
pub const SERVER_NAME: &str = "ghostlight";
/// Application protocol of node-to-node connections.
const ALPN: &[u8] = b"ghostlight/1";
/// Bytes of a certificate's number.
const SERIAL_BYTES: usize = 16;
/// What the authority's key is derived for.
const DERIVED_FOR: &[u8] = b"ghostlight cluster authority v1";
/// An Ed25519 private key in PKCS #8 is this and 32 bytes (RFC 8410).
const PKCS8_PREFIX: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

/// Both sides' configuration for one node.
#[derive(Clone)]
pub struct NodeTls {
    /// For accepting.
    pub server: Arc<QuicServerConfig>,
    /// For dialing.
    pub client: Arc<QuicClientConfig>,
}

/// Why certificates could not be made: a fault of this program or its libraries.
#[derive(Debug, thiserror::Error)]
#[error("cannot make this node's certificate: {0}")]
pub struct TlsError(String);

/// Makes this node's certificates from the cluster key.
///
/// # Errors
/// When a library refuses what is made here.
pub fn node_tls(key: &ClusterKey) -> Result<NodeTls, TlsError> {
    let failed = |error: &dyn std::fmt::Display| TlsError(error.to_string());
    let authority_key = authority_key(key)?;
    let authority = authority_params();
    let authority_cert = authority
        .self_signed(&authority_key)
        .map_err(|e| failed(&e))?;
    let leaf_key = KeyPair::generate_for(&PKCS_ED25519).map_err(|e| failed(&e))?;
    let issuer = Issuer::new(authority, authority_key);
    let leaf = leaf_params()?
        .signed_by(&leaf_key, &issuer)
        .map_err(|e| failed(&e))?;

    let mut roots = RootCertStore::empty();
    roots
        .add(authority_cert.der().clone())
        .map_err(|e| failed(&e))?;
    let roots = Arc::new(roots);
    let chain: Vec<CertificateDer<'static>> = vec![leaf.der().clone()];
    let secret = || PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(leaf_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions = &[&rustls::version::TLS13];

    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider))
            .build()
            .map_err(|e| failed(&e))?;
    let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)
        .map_err(|e| failed(&e))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain.clone(), secret())
        .map_err(|e| failed(&e))?;
    server.alpn_protocols = vec![ALPN.to_vec()];
    let mut client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .map_err(|e| failed(&e))?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, secret())
        .map_err(|e| failed(&e))?;
    client.alpn_protocols = vec![ALPN.to_vec()];
    Ok(NodeTls {
        server: Arc::new(QuicServerConfig::try_from(server).map_err(|e| failed(&e))?),
        client: Arc::new(QuicClientConfig::try_from(client).map_err(|e| failed(&e))?),
    })
}

/// A random one that is encoded as long as any other: with zeros in front, which are left out, a
/// certificate would be shorter once in a while, and runs with the same seed would differ.
fn serial() -> SerialNumber {
    let mut bytes: [u8; SERIAL_BYTES] = rand::rng().random();
    bytes[0] = (bytes[0] & 0x3f) | 0x40;
    SerialNumber::from_slice(&bytes)
}

fn authority_key(key: &ClusterKey) -> Result<KeyPair, TlsError> {
    struct Length;
    impl ring::hkdf::KeyType for Length {
        fn len(&self) -> usize {
            32
        }
    }
    let secret = ring::hkdf::Salt::new(ring::hkdf::HKDF_SHA256, b"").extract(key.bytes());
    let mut seed = [0; 32];
    secret
        .expand(&[DERIVED_FOR], Length)
        .and_then(|okm| okm.fill(&mut seed))
        .map_err(|_| TlsError("the key derivation failed".to_owned()))?;
    let pkcs8 = [&PKCS8_PREFIX[..], &seed].concat();
    KeyPair::from_pkcs8_der_and_sign_algo(&PrivatePkcs8KeyDer::from(pkcs8), &PKCS_ED25519)
        .map_err(|error| TlsError(error.to_string()))
}

fn authority_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::CommonName, "Ghostlight cluster");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2120, 1, 1);
    params
}

fn leaf_params() -> Result<CertificateParams, TlsError> {
    let mut params = CertificateParams::new(vec![SERVER_NAME.to_owned()])
        .map_err(|error| TlsError(error.to_string()))?;
    params
        .distinguished_name
        .push(DnType::CommonName, "Ghostlight node");
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    params.serial_number = Some(serial());
    // A leaf lives as long as its process; the dates only have to hold wherever a clock may jump.
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2119, 1, 1);
    Ok(params)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_all_of_one_size() {
        let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let lengths: std::collections::BTreeSet<usize> = (0..2_000)
            .map(|_| {
                leaf_params()
                    .unwrap()
                    .self_signed(&key)
                    .unwrap()
                    .der()
                    .len()
            })
            .collect();
        assert_eq!(lengths.len(), 1, "{lengths:?}");
    }
}
