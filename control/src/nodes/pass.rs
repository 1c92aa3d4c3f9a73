//! What a node shows with each call once it has joined: its name, signed.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::token::hex;

/// What the key is made from beside the join token, so that the token itself signs nothing.
const PURPOSE: &[u8] = b"weir node pass 1";

/// How long a pass holds; one that is heard is given another in time.
const LASTS_S: u64 = 24 * 60 * 60;

/// How often a node is given another one, while it is heard.
pub(super) const RENEW: std::time::Duration = std::time::Duration::from_secs(LASTS_S / 4);

/// The one who calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Caller {
    pub(crate) name: String,
    pub(crate) instance: u64,
}

/// Signs and checks passes. All replicas with one join token take each other's.
pub(crate) struct Passes {
    join: Option<String>,
    key: [u8; 32],
}

impl Passes {
    /// Without a join token everybody may join: only on loopback.
    pub(crate) fn new(join: Option<String>) -> Self {
        let key = mac(join.as_deref().unwrap_or_default().as_bytes(), PURPOSE);
        Self { join, key }
    }

    /// Whether whoever shows that may join.
    pub(crate) fn may_join(&self, shown: Option<&str>) -> bool {
        self.join.as_ref().is_none_or(|join| {
            // Of equal length whatever was shown.
            let digest = |text: &str| mac(&self.key, text.as_bytes());
            shown.is_some_and(|shown| bool::from(digest(shown).ct_eq(&digest(join))))
        })
    }

    /// A pass: name, instance, expiry and signature.
    pub(crate) fn sign(&self, caller: &Caller, now_s: u64) -> String {
        let said = format!("{}/{:016x}/{}", caller.name, caller.instance, now_s.saturating_add(LASTS_S));
        let signature = mac(&self.key, said.as_bytes());
        format!("{said}/{}", hex(&signature))
    }

    /// Whose pass it is, if it is a good one.
    pub(crate) fn check(&self, shown: &str, now_s: u64) -> Option<Caller> {
        let (said, signature) = shown.rsplit_once('/')?;
        let expected = hex(&mac(&self.key, said.as_bytes()));
        if !bool::from(expected.as_bytes().ct_eq(signature.as_bytes())) {
            return None;
        }
        let mut parts = said.split('/');
        let (name, instance, expires) = (parts.next()?, parts.next()?, parts.next()?);
        (expires.parse::<u64>().ok()? > now_s).then_some(())?;
        Some(Caller { name: name.to_owned(), instance: u64::from_str_radix(instance, 16).ok()? })
    }
}

fn mac(key: &[u8], text: &[u8]) -> [u8; 32] {
    // HMAC takes keys of any length (RFC 2104 §3).
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return [0; 32] };
    mac.update(text);
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_is_good_until_it_expires_and_only_as_it_was_signed() {
        let passes = Passes::new(Some("join".into()));
        let caller = Caller { name: "edge-1".into(), instance: 7 };
        let pass = passes.sign(&caller, 1_000);
        assert_eq!(passes.check(&pass, 1_000), Some(caller.clone()));
        assert_eq!(passes.check(&pass, 1_000 + LASTS_S), None);
        assert_eq!(Passes::new(Some("other".into())).check(&pass, 1_000), None);
        assert_eq!(Passes::new(None).check(&pass, 1_000), None);
        for wrong in ["", "/", "edge-1", &pass.replace("edge-1", "edge-2"), &pass[..pass.len() - 1]] {
            assert_eq!(passes.check(wrong, 1_000), None, "{wrong}");
        }
        assert_eq!(Passes::new(Some("join".into())).check(&pass, 1_000), Some(caller), "another replica");
    }

    #[test]
    fn who_joins_has_the_token() {
        let passes = Passes::new(Some("join".into()));
        assert!(passes.may_join(Some("join")));
        assert!(!passes.may_join(Some("joint")) && !passes.may_join(Some("")) && !passes.may_join(None));
        assert!(Passes::new(None).may_join(None));
    }
}
