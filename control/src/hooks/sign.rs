//! The signature of a delivery: whoever has the endpoint's secret can tell that weir sent it, and when.
//!
//! `X-Weir-Signature: t=1700000000,v1=…`: `v1` is the HMAC-SHA256 (RFC 2104) of the seconds in `t`, a dot and the body,
//! keyed with the secret, in hexadecimal digits. A later attempt has another `t`; the body is the same, byte for byte.

use control_api::Secret;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::token::hex;

/// Less could be guessed from one delivery that somebody saw.
pub(super) const LEAST_SECRET_BYTES: usize = 16;

/// Signs for one endpoint.
#[derive(Clone)]
pub(super) struct Signer(Hmac<Sha256>);

impl Signer {
    /// `None` without a secret that is worth it.
    pub(super) fn new(secret: &Secret) -> Option<Self> {
        let secret = secret.reveal().as_bytes();
        if secret.len() < LEAST_SECRET_BYTES {
            return None;
        }
        Hmac::new_from_slice(secret).ok().map(Self)
    }

    /// The header's value.
    pub(super) fn sign(&self, at_s: u64, body: &[u8]) -> String {
        let mut mac = self.0.clone();
        mac.update(at_s.to_string().as_bytes());
        mac.update(b".");
        mac.update(body);
        format!("t={at_s},v1={}", hex(&mac.finalize().into_bytes()))
    }
}

impl std::fmt::Debug for Signer {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Signer(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_what_python_makes_of_it() {
        // hmac.new(b"0123456789abcdef", b'1700000000.{"event":"on_drop"}', "sha256").hexdigest()
        let signer = Signer::new(&Secret::new("0123456789abcdef")).unwrap();
        assert_eq!(
            signer.sign(1_700_000_000, b"{\"event\":\"on_drop\"}"),
            "t=1700000000,v1=432a4c6eac25370ba7afadc9cccfd9fefaa4a19685dacda525ebf41c19d8826e"
        );
    }

    #[test]
    fn a_short_secret_is_none() {
        assert!(Signer::new(&Secret::new("0123456789abcde")).is_none());
        assert!(Signer::new(&Secret::new("")).is_none());
    }
}
