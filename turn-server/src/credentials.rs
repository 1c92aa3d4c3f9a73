//! Credentials that expire: the REST scheme (draft-uberti-behave-turn-rest-00) that coturn calls `use-auth-secret`. The username
//! says when, in seconds since 1970, and whom it is for: `1767225600:ann`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ring::hmac;
use turn::auth::{AuthHandler, generate_auth_key};

use crate::config::Secret;
use crate::desk::Shared;

/// The longest username taken: it is counted by for as long as there is an allocation. RFC 8489 §14.3 allows 508 bytes.
const MAX_USERNAME_BYTES: usize = 256;

/// Why somebody is not let in, which the client is told only as a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Invalid {
    #[error("the username is no time and user")]
    Username,
    #[error("the credentials have expired")]
    Expired,
}

/// The password that belongs to a username, if it has not expired.
pub(crate) fn expected(secret: &Secret, username: &str, now: SystemTime) -> Result<String, Invalid> {
    if username.len() > MAX_USERNAME_BYTES {
        return Err(Invalid::Username);
    }
    let expires = username.split(':').next().unwrap_or_default();
    let expires_s: u64 = expires.parse().map_err(|_| Invalid::Username)?;
    if expires_s < seconds(now) { Err(Invalid::Expired) } else { Ok(password(secret, username)) }
}

/// Whom allocations are counted for: who asked for the credentials, or the credentials themselves.
pub(crate) fn user(username: &str) -> &str {
    match username.split_once(':') {
        Some((_, user)) if !user.is_empty() => user,
        _ => username,
    }
}

/// The HMAC-SHA1 of the username by the secret, in base64.
pub(crate) fn password(secret: &Secret, username: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret.bytes());
    BASE64_STANDARD.encode(hmac::sign(&key, username.as_bytes()))
}

/// Credentials for a user that are good for so long from `now` on, as whoever gives them out makes them.
pub(crate) fn lend(secret: &Secret, user: &str, lifetime: Duration, now: SystemTime) -> (String, String) {
    let username = format!("{}:{user}", seconds(now).saturating_add(lifetime.as_secs()));
    let password = password(secret, &username);
    (username, password)
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Looks passwords up for the protocol, which compares them.
pub(crate) struct Gate(pub(crate) Arc<Shared>);

impl AuthHandler for Gate {
    fn auth_handle(&self, username: &str, realm: &str, _: SocketAddr) -> Result<Vec<u8>, turn::Error> {
        let Shared { config, metrics, .. } = &*self.0;
        match expected(&config.secret, username, SystemTime::now()) {
            Ok(password) => Ok(generate_auth_key(username, realm, &password)),
            Err(invalid) => {
                metrics.refused("credentials");
                Err(turn::Error::Other(invalid.to_string()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_those_of_coturn_and_expire() {
        let secret = Secret::from("north".to_owned());
        let now = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let name = "1700000060:ann";
        // printf 1700000060:ann | openssl dgst -sha1 -hmac north -binary | base64
        assert_eq!(password(&secret, name), "FU+L3A2KrinuwW92i96aGoopJUw=");
        assert_eq!(expected(&secret, name, now), Ok(password(&secret, name)));
        let lent = lend(&secret, "ann", Duration::from_secs(60), now);
        assert_eq!(lent, (name.to_owned(), "FU+L3A2KrinuwW92i96aGoopJUw=".to_owned()));
        let late = now + Duration::from_secs(61);
        assert_eq!(expected(&secret, name, late), Err(Invalid::Expired));
        for nonsense in
            ["", ":ann", "ann", "-5:ann", &format!("1700000060:{}", "x".repeat(MAX_USERNAME_BYTES))]
        {
            assert_eq!(expected(&secret, nonsense, now), Err(Invalid::Username), "{nonsense}");
        }
        assert_eq!((user("17:ann"), user("17"), user("17:")), ("ann", "17", "17:"));
        assert!(!format!("{secret:?}").contains("north"));
    }
}
