//! STUN and TURN servers that clients are told of (RFC 9725 §4.6).

use std::net::IpAddr;

use http::HeaderValue;

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IceServer {
    /// `stun:`, `turn:` or `turns:` (RFC 7064, RFC 7065).
    pub url: String,
    /// What is logged in with, for TURN.
    pub login: Option<Login>,
}

/// What is logged in with.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// The username.
    pub username: String,
    /// The password.
    pub password: String,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login").field("username", &self.username).finish_non_exhaustive()
    }
}

/// Who gives servers out, with logins for a time.
pub trait IceServers: Send + Sync {
    /// Those for a client at that address.
    fn lend(&self, client: IpAddr) -> Vec<IceServer>;
}

impl IceServer {
    /// As a `Link` (RFC 8288). `None`: it has what a link can't have; clients do without.
    pub(crate) fn link(&self) -> Option<HeaderValue> {
        let quotable = |text: &str| !text.contains(['"', '\\', '<', '>']);
        let mut link = format!("<{}>; rel=\"ice-server\"", self.url);
        let mut quotes = quotable(&self.url);
        if let Some(Login { username, password }) = &self.login {
            quotes &= quotable(username) && quotable(password);
            link += &format!(
                "; username=\"{username}\"; credential=\"{password}\"; credential-type=\"password\""
            );
        }
        let mut link = HeaderValue::from_str(&link).ok().filter(|_| quotes)?;
        link.set_sensitive(self.login.is_some());
        Some(link)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_has_what_is_logged_in_with_and_a_log_does_not() {
        let login = Login { username: "17:ann".to_owned(), password: "pa55".to_owned() };
        let server = IceServer { url: "turn:a.example:3478?transport=udp".to_owned(), login: Some(login) };
        let link = server.link().unwrap();
        assert_eq!(
            link.to_str().unwrap(),
            "<turn:a.example:3478?transport=udp>; rel=\"ice-server\"; username=\"17:ann\"; credential=\"pa55\"; credential-type=\"password\""
        );
        assert!(!format!("{server:?} {link:?}").contains("pa55"));
        for url in ["stun:a\">", "stun:a\n"] {
            assert_eq!(IceServer { url: url.to_owned(), login: None }.link(), None, "{url}");
        }
    }
}
