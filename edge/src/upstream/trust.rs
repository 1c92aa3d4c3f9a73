//! Whose certificates are believed: an origin that is asked by `https` shows one (RFC 9110 §4.3.4).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

/// Why nobody can be believed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrustError {
    /// The file is not there, or is no PEM.
    #[error("cannot read the certificates in {} (`edge.upstream.ca`): {what}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        what: String,
    },
    /// This machine has no list of its own.
    #[error(
        "this machine has no root certificates, so no origin can be asked by https: install them (Debian: \
         ca-certificates), or name those of the origins' certificates in `edge.upstream.ca`"
    )]
    NoRoots,
    /// The TLS library refuses.
    #[error(transparent)]
    Tls(#[from] rustls::Error),
}

/// How origins are met: with a certificate that one of those in `ca` signed, or one that this machine knows. Where none is
/// asked by https (`asked`), nobody is believed, and nothing is read.
pub(super) fn client(asked: bool, ca: Option<&Path>) -> Result<ClientConfig, TrustError> {
    let mut roots = RootCertStore::empty();
    match ca.filter(|_| asked) {
        Some(path) => read(path, &mut roots)?,
        None if !asked => {}
        None => {
            // What can't be read of a machine's list is of no use to anybody; the rest is.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() {
                return Err(TrustError::NoRoots);
            }
        }
    }
    Ok(ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

fn read(path: &Path, roots: &mut RootCertStore) -> Result<(), TrustError> {
    let wrong = |what: String| TrustError::File { path: path.to_owned(), what };
    let pem = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
        roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(wrong("there is no certificate in it".to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_certificates_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        let error = || client(true, Some(&path)).unwrap_err().to_string();
        assert!(error().contains("ca.pem"), "{}", error());
        for text in ["", "nothing", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            std::fs::write(&path, text).unwrap();
            assert!(error().contains("ca.pem") && error().contains("`edge.upstream.ca`"), "{}", error());
        }
        let made = rcgen::generate_simple_self_signed(["origin".to_owned()]).unwrap();
        std::fs::write(&path, made.cert.pem()).unwrap();
        client(true, Some(&path)).unwrap();
        client(false, Some(&folder.path().join("none.pem"))).unwrap();
    }
}
