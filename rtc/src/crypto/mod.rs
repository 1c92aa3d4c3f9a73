//! The cryptography that str0m is handed: ring where ring has it (SRTP by AES-GCM, HMAC, SHA), RustCrypto's AES for the
//! counter mode of SRTP's oldest profile and for key derivation, dimpl for DTLS, whose certificates rcgen makes.
//!
//! str0m's own providers bring aws-lc or OpenSSL, of which this binary has neither.

mod dtls;
mod hash;
mod srtp;

use str0m::config::CryptoProvider;

/// What [`str0m::RtcConfig::set_crypto_provider`] takes.
pub(crate) fn provider() -> CryptoProvider {
    CryptoProvider {
        srtp_provider: &srtp::Srtp,
        sha1_hmac_provider: &hash::HmacSha1,
        sha1_provider: &hash::Sha1,
        sha256_provider: &hash::Sha256,
        dtls_provider: &dtls::Dtls,
    }
}

pub(crate) use dtls::certificate;
