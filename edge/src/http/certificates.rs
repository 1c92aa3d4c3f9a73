//! The certificate that clients are shown, and its key: read from files, and again when those change.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// How often the files are looked at. Certificates are renewed weeks before they end.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Why a certificate can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// A file can't be read.
    #[error("cannot read {}: {error}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// A file is no PEM, or has something else in it.
    #[error("{}: {what}", .path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The two don't belong together.
    #[error("the key in {} is not that of the certificate in {}", .key.display(), .certificate.display())]
    Mismatch {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
}

/// A certificate chain and its key, each in a PEM file. Clones are the same one: what is read again is shown to the
/// next client of each.
#[derive(Clone)]
pub struct Certificates(Arc<Files>);

struct Files {
    certificate: PathBuf,
    key: PathBuf,
    current: ArcSwap<CertifiedKey>,
}

impl Certificates {
    /// Reads both files.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, CertificateError> {
        let current = ArcSwap::from_pointee(read(certificate, key)?);
        Ok(Self(Arc::new(Files { certificate: certificate.to_owned(), key: key.to_owned(), current })))
    }

    /// Reads both files again. If anything is wrong with them, what was read before stays.
    pub fn reload(&self) {
        let Files { certificate, key, current } = &*self.0;
        match read(certificate, key) {
            Ok(new) if new.cert == current.load().cert => {}
            Ok(new) => {
                current.store(Arc::new(new));
                tracing::info!(certificate = %certificate.display(), "a new certificate is shown");
            }
            Err(error) => tracing::error!(%error, "the certificate stays the one that was read before"),
        }
    }

    /// How a server shows it to clients that speak one of `protocols` (ALPN, RFC 7301), the best liked first.
    pub fn server(&self, protocols: &[&[u8]]) -> Result<rustls::ServerConfig, rustls::Error> {
        super::tls::config(self.clone(), rustls::ALL_VERSIONS, protocols)
    }

    /// Reads the files again whenever they have changed, and then not for one look: the other one may change as well.
    /// Never ends. An edge does so by itself for those that it shows.
    pub async fn watch(&self) {
        let mut read = self.stamps().await;
        let mut seen = read;
        let mut looks = tokio::time::interval(LOOK_EVERY);
        loop {
            looks.tick().await;
            let now = self.stamps().await;
            let rests = now == std::mem::replace(&mut seen, now);
            if rests && now != read {
                read = now;
                self.reload();
            }
        }
    }

    async fn stamps(&self) -> [Option<Stamp>; 2] {
        let Files { certificate, key, .. } = &*self.0;
        let (certificate, key) = (certificate.clone(), key.clone());
        // A disk may take its time.
        tokio::task::spawn_blocking(move || [certificate, key].map(|path| Stamp::of(&path)))
            .await
            .unwrap_or_default()
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Certificates").field(&self.0.certificate).finish()
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.current.load_full())
    }
}

/// What tells a file from what it was before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    modified: SystemTime,
    len: u64,
}

impl Stamp {
    /// `None` while there is no such file, as between the two steps of a careless replacement.
    fn of(path: &Path) -> Option<Self> {
        let metadata = std::fs::metadata(path).ok()?;
        Some(Self { modified: metadata.modified().ok()?, len: metadata.len() })
    }
}

fn read(certificate: &Path, key: &Path) -> Result<CertifiedKey, CertificateError> {
    let wrong = |path: &Path, what: String| CertificateError::Content { path: path.to_owned(), what };
    let pem = |path: &Path| {
        std::fs::read(path).map_err(|error| CertificateError::Read { path: path.to_owned(), error })
    };
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&pem(certificate)?)
        .collect::<Result<_, _>>()
        .map_err(|error| wrong(certificate, error.to_string()))?;
    if chain.is_empty() {
        return Err(wrong(certificate, "there is no certificate in it".to_owned()));
    }
    // What is said of a key never quotes it.
    let der = PrivateKeyDer::from_pem_slice(&pem(key)?)
        .map_err(|_| wrong(key, "there is no private key in it that can be read".to_owned()))?;
    let signing_key = any_supported_type(&der).map_err(|_| {
        wrong(key, "this kind of private key can't be used (RSA, ECDSA and Ed25519 can)".to_owned())
    })?;
    let pair = CertifiedKey::new(chain, signing_key);
    match pair.keys_match() {
        Ok(()) => Ok(pair),
        Err(rustls::Error::InconsistentKeys(_)) => {
            Err(CertificateError::Mismatch { certificate: certificate.to_owned(), key: key.to_owned() })
        }
        Err(error) => Err(wrong(certificate, error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with a pair in it.
    struct Folder(tempfile::TempDir);

    impl Folder {
        fn new() -> Self {
            let folder = Self(tempfile::tempdir().unwrap());
            let (certificate, key) = pair();
            std::fs::write(folder.certificate(), certificate).unwrap();
            std::fs::write(folder.key(), key).unwrap();
            folder
        }

        fn certificate(&self) -> PathBuf {
            self.0.path().join("certificate.pem")
        }

        fn key(&self) -> PathBuf {
            self.0.path().join("key.pem")
        }

        fn load(&self) -> Result<Certificates, CertificateError> {
            Certificates::load(&self.certificate(), &self.key())
        }

        fn error(&self) -> String {
            self.load().unwrap_err().to_string()
        }
    }

    fn pair() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    fn shown(certificates: &Certificates) -> Vec<u8> {
        certificates.0.current.load().cert[0].to_vec()
    }

    #[test]
    fn what_is_wrong_names_its_file_and_never_the_key() {
        let folder = Folder::new();
        folder.load().unwrap();
        let (certificate, key) = pair();
        std::fs::write(folder.key(), &key).unwrap();
        let said = folder.error();
        assert!(said.contains("key.pem is not that of the certificate in"), "{said}");
        std::fs::write(folder.certificate(), "nothing").unwrap();
        assert!(
            folder.error().ends_with("certificate.pem: there is no certificate in it"),
            "{}",
            folder.error()
        );
        let broken = certificate.replace('M', "!");
        std::fs::write(folder.certificate(), broken).unwrap();
        assert!(folder.error().contains("certificate.pem: "), "{}", folder.error());
        std::fs::write(folder.certificate(), &certificate).unwrap();
        for nothing in
            ["", "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n", &certificate]
        {
            std::fs::write(folder.key(), nothing).unwrap();
            let said = folder.error();
            assert!(said.contains("key.pem: ") && !said.contains("c2VjcmV0"), "{said}");
        }
        std::fs::remove_file(folder.key()).unwrap();
        assert!(folder.error().starts_with("cannot read "), "{}", folder.error());
    }

    #[test]
    fn a_broken_pair_leaves_the_one_before() {
        let folder = Folder::new();
        let certificates = folder.load().unwrap();
        let before = shown(&certificates);
        let (certificate, key) = pair();
        std::fs::write(folder.certificate(), &certificate).unwrap();
        certificates.reload();
        assert_eq!(shown(&certificates), before, "the key is the old one");
        std::fs::write(folder.key(), &key).unwrap();
        certificates.reload();
        assert_ne!(shown(&certificates), before);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pair_that_was_replaced_is_read_once_it_rests() {
        let folder = Folder::new();
        let certificates = folder.load().unwrap();
        let before = shown(&certificates);
        let watching = tokio::spawn({
            let certificates = certificates.clone();
            async move { certificates.watch().await }
        });
        tokio::time::sleep(3 * LOOK_EVERY).await;
        let (certificate, key) = pair();
        std::fs::write(folder.certificate(), certificate).unwrap();
        std::fs::write(folder.key(), key).unwrap();
        while shown(&certificates) == before {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        watching.abort();
    }
}
