//! TLS towards a bus: rustls, with the machine's roots or those that a component names.
//!
//! Certificates and keys are PEM, as text or as the path of a file. Absent: a way not to check a
//! server's certificate.

use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

/// What a client shows of itself.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct ClientCertificate {
    /// PEM or a path; the chain, the client's own first.
    pub(crate) certificate: String,
    /// PEM or a path.
    pub(crate) key: String,
}

/// `authority` is PEM or a path; without one the machine's roots count.
///
/// # Errors
/// Something cannot be read: a sentence.
pub(crate) fn config(
    authority: Option<&str>,
    client: Option<&ClientCertificate>,
) -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS cannot be set up: {error}"))?
        .with_root_certificates(roots(authority)?);
    let Some(ClientCertificate { certificate, key }) = client else {
        return Ok(builder.with_no_client_auth());
    };
    let chain = certificates("the client's certificate", certificate)?;
    let key = PrivateKeyDer::from_pem_slice(&pem("the client's key", key)?)
        .map_err(|error| format!("the client's key cannot be read: {error}"))?;
    builder
        .with_client_auth_cert(chain, key)
        .map_err(|error| format!("the client's certificate cannot be used: {error}"))
}

fn roots(authority: Option<&str>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    match authority {
        Some(authority) => {
            const WHAT: &str = "the authority's certificate";
            for certificate in certificates(WHAT, authority)? {
                let added = roots.add(certificate);
                added.map_err(|error| format!("{WHAT} cannot be used: {error}"))?;
            }
        }
        None => {
            // One that cannot be read is missing when it is needed.
            let found = rustls_native_certs::load_native_certs().certs;
            roots.add_parsable_certificates(found);
        }
    }
    Ok(roots)
}

fn certificates(what: &str, given: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let text = pem(what, given)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match all {
        Ok(all) if !all.is_empty() => Ok(all),
        Ok(_) => Err(format!(
            "{what} has none in it. Write PEM, or the path of a file of it"
        )),
        Err(error) => Err(format!("{what} cannot be read: {error}")),
    }
}

fn pem(what: &str, given: &str) -> Result<Vec<u8>, String> {
    if given.contains("-----BEGIN") {
        return Ok(given.as_bytes().to_vec());
    }
    std::fs::read(given).map_err(|error| {
        format!("{what} is neither PEM nor the path of a file that can be read ({error})")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> ClientCertificate {
        let made = rcgen::generate_simple_self_signed(["here".to_owned()]).unwrap();
        ClientCertificate {
            certificate: made.cert.pem(),
            key: made.signing_key.serialize_pem(),
        }
    }

    #[test]
    fn certificates_are_text_or_files() {
        let pair = pair();
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let files = ClientCertificate {
            certificate: file("certificate", &pair.certificate),
            key: file("key", &pair.key),
        };
        for client in [&pair, &files] {
            assert!(config(Some(&client.certificate), Some(client)).is_ok());
        }
        assert!(config(None, None).is_ok());
    }

    #[test]
    fn what_cannot_be_read_is_said() {
        let good = pair();
        let swapped = ClientCertificate {
            certificate: good.key.clone(),
            key: good.certificate.clone(),
        };
        for (authority, client, wanted) in [
            (
                Some("/no/such/file"),
                None,
                "the authority's certificate is neither",
            ),
            (
                Some(good.key.as_str()),
                None,
                "the authority's certificate has none",
            ),
            (None, Some(&swapped), "the client's certificate has none"),
        ] {
            let why = config(authority, client).err().unwrap_or_default();
            assert!(why.starts_with(wanted), "{why}");
        }
    }
}
