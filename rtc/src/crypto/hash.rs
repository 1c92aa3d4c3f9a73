//! Hashes: STUN's message integrity, fingerprints of certificates.

use ring::{digest, hmac};
use str0m::crypto::{Sha1HmacProvider, Sha1Provider, Sha256Provider};

#[derive(Debug)]
pub(super) struct HmacSha1;

impl Sha1HmacProvider for HmacSha1 {
    fn sha1_hmac(&self, key: &[u8], payloads: &[&[u8]]) -> [u8; 20] {
        let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, key));
        payloads.iter().for_each(|payload| context.update(payload));
        first(context.sign().as_ref())
    }
}

#[derive(Debug)]
pub(super) struct Sha1;

impl Sha1Provider for Sha1 {
    fn sha1(&self, data: &[u8]) -> [u8; 20] {
        first(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, data).as_ref())
    }
}

#[derive(Debug)]
pub(super) struct Sha256;

impl Sha256Provider for Sha256 {
    fn sha256(&self, data: &[u8]) -> [u8; 32] {
        first(digest::digest(&digest::SHA256, data).as_ref())
    }
}

/// A digest as an array of the length that its algorithm has.
fn first<const N: usize>(digest: &[u8]) -> [u8; N] {
    digest.first_chunk::<N>().copied().unwrap_or([0; N])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn the_published_values_come_out() {
        // RFC 2202, case 2; FIPS 180's "abc".
        let mac = HmacSha1.sha1_hmac(b"Jefe", &[b"what do ya want ", b"for nothing?"]);
        assert_eq!(hex(&mac), "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79");
        assert_eq!(hex(&Sha1.sha1(b"abc")), "a9993e364706816aba3e25717850c26c9cd0d89d");
        let sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hex(&Sha256.sha256(b"abc")), sha256);
    }
}
