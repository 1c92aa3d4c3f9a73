//! Who is let in, and who is not.

use jsonwebtoken::{EncodingKey, Header};
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::grant::{Algorithm, CannotSign, Signer};

const NOW_S: u64 = 1_800_000_000;
const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(NOW_S)
}

fn claims() -> Claims {
    Claims {
        exp: NOW_S + 60,
        nbf: None,
        aud: Audience::Play,
        stream: "live/*".into(),
        ip: None,
        sid: Some("s".into()),
    }
}

fn pems() -> (String, String) {
    Key::ed25519_pems(&[7; 32]).unwrap()
}

fn secret() -> Key {
    Key::new(Algorithm::Hs256, SECRET).unwrap()
}

/// A secret by the name of `h`, and a public key by the name of `e`.
fn grants() -> Grants {
    let public = Key::new(Algorithm::EdDsa, &pems().1).unwrap();
    Grants::new(KeySet::new([("h".to_owned(), secret()), ("e".to_owned(), public)]).unwrap())
}

fn signers() -> [Signer; 2] {
    [Signer::new("h", secret()), Signer::new("e", Key::new(Algorithm::EdDsa, &pems().0).unwrap())]
}

fn verify(grant: &str, stream: &str) -> Result<Arc<Claims>, Refused> {
    let asked = Asked { audience: Audience::Play, stream, peer: "192.0.2.7".parse().unwrap() };
    grants().verify(Some(grant), asked, now())
}

#[test]
fn both_algorithms_let_in_whom_they_are_for() {
    for signer in signers() {
        let grant = signer.sign(&claims()).unwrap();
        assert_eq!(*verify(&grant, "live/a").unwrap(), claims());
        assert_eq!(verify(&grant, "lives/a"), Err(Refused::Stream));
        let with = |change: fn(&mut Claims)| {
            let mut claims = claims();
            change(&mut claims);
            verify(&signer.sign(&claims).unwrap(), "live/a").map(|_| ())
        };
        assert_eq!(with(|c| c.exp = NOW_S - LEEWAY_S + 1), Ok(()));
        assert_eq!(with(|c| c.exp = NOW_S - LEEWAY_S), Err(Refused::Expired));
        assert_eq!(with(|c| c.exp = 0), Err(Refused::Expired));
        assert_eq!(with(|c| c.exp = u64::MAX), Ok(()));
        assert_eq!(with(|c| c.nbf = Some(NOW_S + LEEWAY_S)), Ok(()));
        assert_eq!(with(|c| c.nbf = Some(NOW_S + LEEWAY_S + 1)), Err(Refused::NotYet));
        assert_eq!(with(|c| c.aud = Audience::Publish), Err(Refused::Audience));
        assert_eq!(with(|c| c.ip = Some("192.0.2.0/24".parse().unwrap())), Ok(()));
        assert_eq!(with(|c| c.ip = Some("192.0.2.8".parse().unwrap())), Err(Refused::Address));
    }
}

#[test]
fn the_key_decides_the_algorithm() {
    let [by_secret, by_private] = signers();
    let header = |alg: &str, kid: &str| json!({ "alg": alg, "kid": kid, "typ": "JWT" });
    let sign = |header: &serde_json::Value, secret: &[u8]| {
        let header: Header = serde_json::from_value(header.clone()).unwrap();
        jsonwebtoken::encode(&header, &claims(), &EncodingKey::from_secret(secret)).unwrap()
    };
    assert!(verify(&sign(&header("HS256", "h"), SECRET.as_bytes()), "live/a").is_ok());
    // A public key as the secret of an HMAC: in PEM, and bare.
    let public = pems().1;
    let bare = ed25519_dalek::SigningKey::from_bytes(&[7; 32]).verifying_key();
    for secret in [public.as_bytes(), public.trim().as_bytes(), bare.as_bytes()] {
        assert_eq!(verify(&sign(&header("HS256", "e"), secret), "live/a"), Err(Refused::Algorithm));
    }
    assert_eq!(verify(&sign(&header("HS512", "h"), SECRET.as_bytes()), "live/a"), Err(Refused::Algorithm));
    // The right key under another's name.
    let swapped = Signer::new("h", Key::new(Algorithm::EdDsa, &pems().0).unwrap());
    assert_eq!(verify(&swapped.sign(&claims()).unwrap(), "live/a"), Err(Refused::Algorithm));
    assert_eq!(
        verify(&Signer::new("x", secret()).sign(&claims()).unwrap(), "live/a"),
        Err(Refused::UnknownKey)
    );
    let other = Key::new(Algorithm::Hs256, &SECRET.replace('0', "1")).unwrap();
    assert_eq!(verify(&Signer::new("h", other).sign(&claims()).unwrap(), "live/a"), Err(Refused::Signature));
    // Another header, or none, over a good signature.
    for signer in [by_secret, by_private] {
        let grant = signer.sign(&claims()).unwrap();
        let (_, rest) = grant.split_once('.').unwrap();
        for head in
            [r#"{"alg":"none","kid":"h"}"#, r#"{"alg":"RS256","kid":"e"}"#, r#"{"kid":"h"}"#, "{}", ""]
        {
            let forged = format!("{}.{rest}", base64(head));
            assert!(verify(&forged, "live/a").is_err(), "{head}");
            let (unsigned, _) = forged.rsplit_once('.').unwrap();
            assert!(verify(&format!("{unsigned}."), "live/a").is_err(), "{head} without a signature");
        }
    }
    let critical = json!({ "alg": "HS256", "kid": "h", "crit": ["b64"], "b64": false });
    assert_eq!(verify(&sign(&critical, SECRET.as_bytes()), "live/a"), Err(Refused::Malformed));
    let nameless = json!({ "alg": "HS256" });
    assert_eq!(verify(&sign(&nameless, SECRET.as_bytes()), "live/a"), Err(Refused::Malformed));
}

/// RFC 4648 §5, without padding.
fn base64(text: &str) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let digits = text.as_bytes().chunks(3).flat_map(|chunk| {
        let bits =
            chunk.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        (0..=chunk.len()).map(move |i| char::from(DIGITS[(bits >> (18 - 6 * i)) as usize & 63]))
    });
    digits.collect()
}

#[test]
fn what_is_remembered_is_still_looked_at_and_forgotten_with_its_key() {
    let grants = grants();
    let grant = signers()[0].sign(&claims()).unwrap();
    let ask = |stream, later_s| {
        let asked = Asked { audience: Audience::Play, stream, peer: "::1".parse().unwrap() };
        grants.verify(Some(&grant), asked, now() + Duration::from_secs(later_s)).map(|_| ())
    };
    assert_eq!(ask("live/a", 0), Ok(()));
    assert!(grants.0.load().signed.get(grant.as_str()).is_some());
    assert_eq!(ask("live/a", 0), Ok(()));
    assert_eq!(ask("other/a", 0), Err(Refused::Stream));
    assert_eq!(ask("live/a", 3_600), Err(Refused::Expired));
    grants.replace(KeySet::new([]).unwrap());
    assert_eq!(ask("live/a", 0), Err(Refused::UnknownKey));
}

#[test]
fn only_so_much_is_remembered_and_nothing_that_nobody_signed() {
    let keys = KeySet::new([("h".to_owned(), secret())]).unwrap();
    let signer = Signer::new("h", secret());
    for i in 0..REMEMBERED / 8 {
        let stream = format!("live/{i}");
        let grant = signer.sign(&Claims { stream, ..claims() }).unwrap();
        assert!(keys.signed(&format!("{grant}x")).is_err());
        assert!(keys.signed(&grant).is_ok());
    }
    assert!(keys.signed.len() <= REMEMBERED / 8);
    assert!(keys.signed.capacity() <= REMEMBERED as u64);
}

#[test]
fn a_missing_grant_is_told_from_a_wrong_one() {
    let asked = Asked { audience: Audience::Play, stream: "live/a", peer: "::1".parse().unwrap() };
    assert_eq!(grants().verify(None, asked, now()), Err(Refused::Missing));
    for wrong in ["", ".", "..", "a.b.c", "a.b.c.d", &"a".repeat(MAX_GRANT_BYTES + 1)] {
        assert_eq!(verify(wrong, "live/a"), Err(Refused::Malformed), "{wrong}");
    }
}

#[test]
fn keys_that_are_none_are_refused_and_public_ones_cannot_sign() {
    assert_eq!(Key::new(Algorithm::Hs256, &SECRET[1..]).unwrap_err(), super::super::BadKey::Short);
    assert_eq!(Key::new(Algorithm::EdDsa, SECRET).unwrap_err(), super::super::BadKey::Pem);
    let public = Signer::new("e", Key::new(Algorithm::EdDsa, &pems().1).unwrap());
    assert_eq!(public.sign(&claims()), Err(CannotSign::PublicKey));
    assert!(!format!("{:?}", secret()).contains(SECRET));
    let twice = [("h".to_owned(), secret()), ("h".to_owned(), secret())];
    assert_eq!(KeySet::new(twice).unwrap_err(), SameKid("h".into()));
}

#[test]
fn reasons_are_distinct() {
    let reasons: std::collections::HashSet<_> = Refused::ALL.iter().map(|refused| refused.reason()).collect();
    assert_eq!(reasons.len(), Refused::ALL.len());
}

proptest! {
    /// No byte of a grant can be another.
    #[test]
    fn a_changed_grant_is_refused(at in any::<prop::sample::Index>(), byte in "[A-Za-z0-9_.-]", which in 0usize..2) {
        let grant = signers()[which].sign(&claims()).unwrap();
        let mut changed = grant.clone();
        let at = at.index(grant.len());
        changed.replace_range(at..=at, &byte);
        // The last digit of a signature has bits that mean nothing and must be 0.
        prop_assume!(changed != grant);
        prop_assert!(verify(&changed, "live/a").is_err());
    }

    #[test]
    fn nothing_upsets_it(grant in ".*") {
        prop_assert!(verify(&grant, "live/a").is_err());
    }
}
