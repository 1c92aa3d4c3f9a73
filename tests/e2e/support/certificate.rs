//! Certificates, made by openssl as people make them.

use std::path::{Path, PathBuf};

use tokio::process::Command;

use super::within;

/// Makes a certificate of `localhost`, which is trusted by who has it, and its key.
pub async fn pair(folder: &Path, name: &str) -> (PathBuf, PathBuf) {
    let (certificate, key) = (folder.join(format!("{name}.crt")), folder.join(format!("{name}.key")));
    let openssl = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"])
        .args(["-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .output();
    assert!(within("openssl", openssl).await.unwrap().status.success());
    (certificate, key)
}
