//! Connections to endpoints: a name is resolved, addresses that may not be reached are taken out, and one of the rest is
//! connected to. The address that was looked at is the one that is used; nothing is resolved twice.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::Uri;
use http::uri::Scheme;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use super::address::Allowed;

/// Addresses of a name that are tried at most.
const MAX_ADDRESSES: usize = 4;

/// Questions to the resolver for one endpoint at once. One that hangs holds a thread until the system gives up, long
/// after whoever asked; it must leave threads for others.
const MAX_LOOKUPS: usize = 4;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    /// The name leads nowhere.
    #[error("the name can't be resolved: {0}")]
    Resolve(io::Error),
    /// It leads only to where a hook may not go.
    #[error("{0} is no address that a hook may lead to; allow_private can allow it")]
    Refused(IpAddr),
    /// Nobody answers there.
    #[error("{0}")]
    Connect(io::Error),
    /// It took too long.
    #[error("no connection in time")]
    Late,
}

/// Turns a name into addresses.
#[async_trait]
pub(super) trait Resolve: fmt::Debug + Send + Sync + 'static {
    /// All addresses of the name; the port is put into them.
    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>>;
}

/// The system's resolver.
#[derive(Debug)]
pub(super) struct System;

#[async_trait]
impl Resolve for System {
    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        Ok(tokio::net::lookup_host((host, port)).await?.collect())
    }
}

/// Connects to an endpoint.
#[derive(Debug, Clone)]
pub(super) struct Connector {
    resolver: Arc<dyn Resolve>,
    allowed: Arc<Allowed>,
    /// For the name and the connection together.
    within: Duration,
    lookups: Arc<Semaphore>,
}

impl Connector {
    pub(super) fn new(resolver: Arc<dyn Resolve>, allowed: Arc<Allowed>, within: Duration) -> Self {
        Self { resolver, allowed, within, lookups: Arc::new(Semaphore::new(MAX_LOOKUPS)) }
    }

    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let slot = Arc::clone(&self.lookups).acquire_owned().await.map_err(io::Error::other)?;
        let (resolver, host) = (Arc::clone(&self.resolver), host.to_owned());
        // A task, so that the slot is held until the resolver is done, even if nobody waits any more.
        let lookup = tokio::spawn(async move {
            let found = resolver.resolve(&host, port).await;
            drop(slot);
            found
        });
        lookup.await.map_err(io::Error::other)?
    }

    /// A connection to where the URL leads, if it may lead there.
    pub(super) async fn connect(self, uri: Uri) -> Result<TokioIo<TcpStream>, ConnectError> {
        let deadline = Instant::now() + self.within;
        let host = bare_host(&uri);
        let port = port(&uri);
        let found = match host.parse::<IpAddr>() {
            Ok(address) => vec![SocketAddr::new(address, port)],
            Err(_) => timeout_at(deadline, self.resolve(host, port))
                .await
                .map_err(|_| ConnectError::Late)?
                .map_err(ConnectError::Resolve)?,
        };
        // The port is the URL's, whatever the resolver says.
        let found = found.into_iter().map(|address| SocketAddr::new(address.ip(), port));
        let (open, closed): (Vec<_>, Vec<_>) = found.partition(|at| self.allowed.permits(host, *at));
        let mut failure = match closed.first() {
            Some(refused) => ConnectError::Refused(refused.ip()),
            None => ConnectError::Resolve(io::ErrorKind::NotFound.into()),
        };
        let tried = open.len().min(MAX_ADDRESSES);
        for (i, at) in open.into_iter().take(MAX_ADDRESSES).enumerate() {
            // One that does not answer leaves the others their share of the time.
            let left = deadline.saturating_duration_since(Instant::now());
            let share = left / u32::try_from(tried - i).unwrap_or(1);
            match tokio::time::timeout(share, TcpStream::connect(at)).await {
                Ok(Ok(stream)) => {
                    stream.set_nodelay(true).map_err(ConnectError::Connect)?;
                    return Ok(TokioIo::new(stream));
                }
                Ok(Err(error)) => failure = ConnectError::Connect(error),
                Err(_) => failure = ConnectError::Late,
            }
        }
        Err(failure)
    }
}

/// A URL's host, an IPv6 address without its brackets.
pub(super) fn bare_host(uri: &Uri) -> &str {
    let host = uri.host().unwrap_or_default();
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

/// A URL's port.
pub(super) fn port(uri: &Uri) -> u16 {
    uri.port_u16().unwrap_or(if uri.scheme() == Some(&Scheme::HTTPS) { 443 } else { 80 })
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// Answers with what it was told, in order; the last answer stays.
    #[derive(Debug)]
    struct Told(parking_lot::Mutex<Vec<Vec<IpAddr>>>);

    #[async_trait]
    impl Resolve for Told {
        async fn resolve(&self, _: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
            let mut answers = self.0.lock();
            let answer = if answers.len() > 1 { answers.remove(0) } else { answers[0].clone() };
            Ok(answer.into_iter().map(|ip| SocketAddr::new(ip, port)).collect())
        }
    }

    fn connector(answers: &[&[&str]], allow: &[&str]) -> Connector {
        let answers = answers.iter().map(|ips| ips.iter().map(|ip| ip.parse().unwrap()).collect()).collect();
        let allow: Vec<String> = allow.iter().map(|entry| (*entry).to_owned()).collect();
        let resolver = Arc::new(Told(parking_lot::Mutex::new(answers)));
        Connector::new(resolver, Arc::new(Allowed::parse(&allow).unwrap()), Duration::from_secs(2))
    }

    async fn connect(connector: &Connector, url: &str) -> Result<SocketAddr, ConnectError> {
        let stream = connector.clone().connect(url.parse().unwrap()).await?;
        Ok(stream.inner().peer_addr().unwrap())
    }

    #[tokio::test]
    async fn names_that_turn_private_are_refused_at_the_next_connection() {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = server.local_addr().unwrap().port();
        // 127.0.0.1 stands for a public address here; the answer turns to another one.
        let connector = connector(&[&["127.0.0.1"], &["127.0.0.2"], &["::ffff:127.0.0.2"]], &["127.0.0.1"]);
        let url = format!("http://rebound.example:{port}/");
        assert_eq!(connect(&connector, &url).await.unwrap(), server.local_addr().unwrap());
        for _ in 0..2 {
            assert!(matches!(connect(&connector, &url).await, Err(ConnectError::Refused(_))));
        }
    }

    #[tokio::test]
    async fn of_a_mixed_answer_only_the_permitted_addresses_are_used() {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = server.local_addr().unwrap();
        let connector = connector(&[&["127.0.0.2", "169.254.169.254", "127.0.0.1"]], &["127.0.0.1"]);
        assert_eq!(connect(&connector, &format!("http://a.example:{}", at.port())).await.unwrap(), at);
    }

    #[tokio::test]
    async fn addresses_in_urls_are_looked_at_as_well() {
        let connector = connector(&[&[]], &[]);
        for url in
            ["http://127.0.0.1:9/", "http://[::1]:9/", "http://[::ffff:127.0.0.1]:9/", "http://0.0.0.0:9/"]
        {
            assert!(matches!(connect(&connector, url).await, Err(ConnectError::Refused(_))), "{url}");
        }
        assert!(matches!(connect(&connector, "http://none.example/").await, Err(ConnectError::Resolve(_))));
    }

    #[tokio::test]
    async fn other_spellings_of_loopback_are_refused_by_what_the_system_makes_of_them() {
        let connector = Connector::new(Arc::new(System), Arc::default(), Duration::from_secs(2));
        for host in ["localhost", "127.1", "2130706433", "0x7f000001", "017700000001"] {
            let found = connect(&connector, &format!("http://{host}:9/")).await;
            assert!(
                matches!(found, Err(ConnectError::Refused(_) | ConnectError::Resolve(_))),
                "{host}: {found:?}"
            );
        }
        assert!(matches!(connect(&connector, "http://localhost:9/").await, Err(ConnectError::Refused(_))));
    }

    #[test]
    fn ports_follow_the_scheme() {
        let of = |url: &str| port(&url.parse().unwrap());
        assert_eq!([of("http://a/"), of("https://a/"), of("https://a:8443/")], [80, 443, 8443]);
        assert_eq!(bare_host(&"http://[::1]:80/".parse().unwrap()), "::1");
    }
}
