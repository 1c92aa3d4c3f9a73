//! DTLS by dimpl, and the certificate that peers are shown.

use std::sync::Arc;
use std::time::{Duration, Instant};

use str0m::config::{DtlsCert, DtlsVersion};
use str0m::crypto::CryptoError;
use str0m::crypto::dtls::{DtlsImplError, DtlsInstance, DtlsOutput, DtlsProvider, ProtocolVersion};

/// How long a handshake may take: longer than a peer has for becoming connected.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(15);
/// Records kept of what a peer sends ahead of the handshake's order.
const MAX_QUEUED: usize = 32;

/// The certificate can't be made: the system has no randomness, or rcgen a defect.
#[derive(Debug, thiserror::Error)]
#[error("the DTLS certificate can't be made: {0}")]
pub(crate) struct CannotMakeCertificate(String);

/// A certificate of the process' own, by P-256. Peers know it by its fingerprint in the answer, so nothing in it matters.
pub(crate) fn certificate() -> Result<DtlsCert, CannotMakeCertificate> {
    let error = |error: rcgen::Error| CannotMakeCertificate(error.to_string());
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(error)?;
    let mut params = rcgen::CertificateParams::new(Vec::new()).map_err(error)?;
    params.distinguished_name.push(rcgen::DnType::CommonName, "weir");
    let certificate = params.self_signed(&key).map_err(error)?;
    Ok(DtlsCert { certificate: certificate.der().to_vec(), private_key: key.serialize_der() })
}

#[derive(Debug)]
pub(super) struct Dtls;

impl DtlsProvider for Dtls {
    fn generate_certificate(&self) -> Option<DtlsCert> {
        certificate().ok()
    }

    fn new_dtls(
        &self,
        certificate: &DtlsCert,
        now: Instant,
        version: DtlsVersion,
        mtu: Option<usize>,
    ) -> Result<Box<dyn DtlsInstance>, CryptoError> {
        // ICE has shown that the peer is where it says before it gets a byte of DTLS: no cookie is needed.
        let mut config = dimpl::Config::builder()
            .use_server_cookie(false)
            .handshake_timeout(HANDSHAKE_TIMEOUT)
            .max_queue_rx(MAX_QUEUED)
            .max_queue_tx(MAX_QUEUED);
        if let Some(mtu) = mtu {
            config = config.mtu(mtu);
        }
        let config = Arc::new(config.build().map_err(|error| CryptoError::Other(error.to_string()))?);
        let certificate = certificate.clone();
        let dtls = match version {
            DtlsVersion::Dtls13 => dimpl::Dtls::new_13(config, certificate, now),
            DtlsVersion::Auto => dimpl::Dtls::new_auto(config, certificate, now),
            _ => dimpl::Dtls::new_12(config, certificate, now),
        };
        Ok(Box::new(Instance(dtls)))
    }
}

struct Instance(dimpl::Dtls);

impl std::fmt::Debug for Instance {
    /// Without keys.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Dtls")
    }
}

impl DtlsInstance for Instance {
    fn set_active(&mut self, active: bool) {
        self.0.set_active(active);
    }

    fn handle_packet(&mut self, packet: &[u8]) -> Result<(), DtlsImplError> {
        self.0.handle_packet(packet)
    }

    fn poll_output<'a>(&mut self, buf: &'a mut [u8]) -> DtlsOutput<'a> {
        self.0.poll_output(buf)
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), DtlsImplError> {
        self.0.handle_timeout(now)
    }

    fn send_application_data(&mut self, data: &[u8]) -> Result<usize, DtlsImplError> {
        self.0.send_application_data(data)
    }

    fn is_active(&self) -> bool {
        self.0.is_active()
    }

    fn protocol_version(&self) -> Option<ProtocolVersion> {
        self.0.protocol_version()
    }

    fn is_closing(&self) -> bool {
        self.0.is_closing()
    }

    fn is_closed(&self) -> bool {
        self.0.is_closed()
    }

    fn close(&mut self) -> Result<(), DtlsImplError> {
        self.0.close()
    }
}
