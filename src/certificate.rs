//! A certificate for development, which nobody but its maker trusts: kept in the data folder, so that what was trusted
//! once stays so.

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use edge::Certificates;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use sha2::{Digest, Sha256};

/// In the data folder.
const CERTIFICATE: &str = "self-signed.pem";
const KEY: &str = "self-signed.key";

/// The certificate that HTTPS shows.
pub(crate) struct Shown {
    pub(crate) certificates: Certificates,
    /// Of a certificate that was made here: by what whoever meets it can tell it from another.
    pub(crate) fingerprint: Option<String>,
}

/// The configured certificate, or else one that is made at the first start.
pub(crate) fn shown(tls: &edge::TlsConfig, data: &Path, at: SocketAddr) -> anyhow::Result<Shown> {
    if let (Some(certificate), Some(key)) = (&tls.certificate, &tls.key) {
        let certificates = Certificates::load(certificate, key)
            .context("the keys `edge.tls.certificate` and `edge.tls.key`")?;
        return Ok(Shown { certificates, fingerprint: None });
    }
    let (certificate, key) = (data.join(CERTIFICATE), data.join(KEY));
    if !certificate.exists() || !key.exists() {
        make(&certificate, &key, at)?;
    }
    let naming =
        || format!("the certificate that was made here; remove {} for another", certificate.display());
    let certificates = Certificates::load(&certificate, &key).with_context(naming)?;
    Ok(Shown { certificates, fingerprint: Some(fingerprint(&certificate).with_context(naming)?) })
}

/// The certificate that an origin shows to edges, if one is configured.
pub(crate) fn of_origin(http: &origin::HttpConfig) -> anyhow::Result<Option<Certificates>> {
    let (Some(certificate), Some(key)) = (&http.certificate, &http.certificate_key) else { return Ok(None) };
    Certificates::load(certificate, key)
        .context("the keys `origin.http.certificate` and `origin.http.certificate_key`")
        .map(Some)
}

/// Makes a certificate for this machine as it is reached from itself, and for where it listens.
fn make(certificate: &Path, key: &Path, at: SocketAddr) -> anyhow::Result<()> {
    let mut names: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(Into::into).into();
    let ip = at.ip();
    if !ip.is_unspecified() && !ip.is_loopback() {
        names.push(ip.to_string());
    }
    let pair = KeyPair::generate()?;
    let made = CertificateParams::new(names)?.self_signed(&pair)?;
    // The certificate comes last: without it, both are made anew.
    write(key, 0o600, &pair.serialize_pem())?;
    write(certificate, 0o644, &made.pem())
}

fn write(path: &Path, mode: u32, text: &str) -> anyhow::Result<()> {
    let naming = || format!("cannot write {}", path.display());
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error).with_context(naming),
        _ => {}
    }
    let file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let mut file = file.with_context(naming)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).with_context(naming)
}

/// The SHA-256 of a certificate as browsers and openssl show it.
fn fingerprint(path: &PathBuf) -> anyhow::Result<String> {
    let certificate = CertificateDer::from_pem_file(path).map_err(|error| anyhow!("{error}"))?;
    let bytes = Sha256::digest(&certificate);
    Ok(bytes.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn shown_in(folder: &Path) -> String {
        let at = SocketAddr::from(([192, 0, 2, 7], 8443));
        shown(&edge::TlsConfig::default(), folder, at).unwrap().fingerprint.unwrap()
    }

    #[test]
    fn a_certificate_is_made_once_and_kept_from_others() {
        let folder = tempfile::tempdir().unwrap();
        let first = shown_in(folder.path());
        assert_eq!(first.len(), 32 * 3 - 1);
        let mode = fs::metadata(folder.path().join(KEY)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(shown_in(folder.path()), first);
        fs::remove_file(folder.path().join(CERTIFICATE)).unwrap();
        assert_ne!(shown_in(folder.path()), first);
    }

    #[test]
    fn a_configured_certificate_that_is_missing_names_its_key_and_file() {
        let folder = tempfile::tempdir().unwrap();
        let tls = edge::TlsConfig {
            certificate: Some("/nowhere/a.pem".into()),
            key: Some("/nowhere/a.key".into()),
            ..edge::TlsConfig::default()
        };
        let error = shown(&tls, folder.path(), SocketAddr::from(([0, 0, 0, 0], 1))).err().unwrap();
        let text = format!("{error:#}");
        assert!(text.contains("`edge.tls.certificate`") && text.contains("/nowhere/a.pem"), "{text}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
