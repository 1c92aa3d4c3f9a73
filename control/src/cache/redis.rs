//! A cache in Redis: one server, or a Redis Cluster.
//!
//! Everything of one name is one key of Redis, so that a cluster can do it in one step.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ErrorKind, FromRedisValue, IntoConnectionInfo, Pipeline, RedisError,
    RedisFuture, RedisResult, TlsCertificates, Value,
};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout, timeout_at};

use super::{Cache, CacheError, Config, ConfigError, check, countable};

/// A call takes no longer: whoever reads a cache can do without.
const CALL_TIMEOUT: Duration = Duration::from_millis(2000);
/// Nor does a connection, nor one answer.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(1000);
/// What a cluster's client has for a call with all that it tries again: it says better than a time-out what went wrong.
const CLUSTER_TIMEOUT: Duration = Duration::from_millis(1500);
/// For so long after a connection failed none is tried: callers are told at once instead of waiting one after the other.
const PAUSE: Duration = Duration::from_millis(200);
/// What a cluster's client tries again by itself, such as what a node that has just gone was asked.
const CLUSTER_RETRIES: u32 = 2;
/// Milliseconds that it waits before, instead of seconds: no caller has those.
const CLUSTER_RETRY_WAIT_MS: (u64, u64) = (20, 200);

/// What was sent and not acknowledged for so long is the end of a connection (TCP_USER_TIMEOUT): the network has lost it, and
/// TCP would take many minutes to find out.
const LOST: Duration = Duration::from_secs(5);

/// A cache in Redis.
pub struct Redis {
    prefix: String,
    server: Server,
    connection: Mutex<Link>,
    connections: AtomicU64,
}

enum Server {
    One(Box<Client>),
    Cluster(Box<ClusterClient>),
}

/// What is known of the way to Redis.
enum Link {
    Up(Numbered),
    Down { since: Option<Instant>, why: String },
}

/// A connection, with a number to know it by.
#[derive(Clone)]
struct Numbered {
    number: u64,
    connection: Connection,
}

#[derive(Clone)]
enum Connection {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Redis {
    /// The cache of a configuration; nothing is connected yet.
    pub fn new(config: &Config) -> Result<Self, ConfigError> {
        let wrong = |key, what: &str| ConfigError { key, what: what.to_owned() };
        // What is wrong with a URL is not quoted: it may have a password in it.
        let unusable = |_: RedisError| wrong("urls", "they look like redis://user:password@host:6379");
        let infos: Vec<_> = config
            .urls
            .iter()
            .map(|url| url.reveal().into_connection_info().map_err(unusable))
            .collect::<Result<_, _>>()?;
        let tls = config.urls.iter().filter(|url| url.reveal().starts_with("rediss:")).count();
        let certificates = match &config.ca_file {
            None => None,
            Some(_) if tls != infos.len() => return Err(wrong("ca_file", "not all URLs are rediss://")),
            Some(file) => match std::fs::read(file) {
                Ok(pem) => Some(TlsCertificates { client_tls: None, root_cert: Some(pem) }),
                Err(error) => return Err(wrong("ca_file", &format!("{}: {error}", file.display()))),
            },
        };
        let tcp = TcpSettings::default().set_user_timeout(LOST);
        let server = if config.cluster {
            let mut builder = ClusterClient::builder(infos)
                .tcp_settings(tcp)
                .connection_timeout(ANSWER_TIMEOUT)
                .response_timeout(ANSWER_TIMEOUT)
                .overall_response_timeout(Some(CLUSTER_TIMEOUT))
                .retries(CLUSTER_RETRIES)
                .min_retry_wait(CLUSTER_RETRY_WAIT_MS.0)
                .max_retry_wait(CLUSTER_RETRY_WAIT_MS.1);
            if let Some(certificates) = certificates {
                builder = builder.certs(certificates);
            }
            let unlike = "there has to be one, and all have the same scheme, user and password";
            Server::Cluster(Box::new(builder.build().map_err(|_| wrong("urls", unlike))?))
        } else {
            let mut infos = infos.into_iter();
            let (Some(info), None) = (infos.next(), infos.next()) else {
                return Err(wrong("urls", "there has to be exactly one, if `cluster` is not true"));
            };
            let info = info.set_tcp_settings(tcp);
            let client = match certificates {
                Some(certificates) => Client::build_with_tls(info, certificates),
                None => Client::open(info),
            };
            Server::One(Box::new(
                client.map_err(|_| wrong("ca_file", "it holds no certificates that can be used"))?,
            ))
        };
        Ok(Self {
            prefix: config.prefix.clone(),
            server,
            connection: Mutex::new(Link::Down { since: None, why: String::new() }),
            connections: AtomicU64::new(0),
        })
    }

    fn value(&self, key: &str) -> String {
        [&self.prefix, "v/", key].concat()
    }

    fn group(&self, key: &str) -> String {
        [&self.prefix, "g/", key].concat()
    }

    fn counter(&self, key: &str) -> String {
        [&self.prefix, "c/", key].concat()
    }

    /// The connection, made if there is none.
    async fn connection(&self) -> Result<Numbered, String> {
        let mut link = self.connection.lock().await;
        match &*link {
            Link::Up(connection) => return Ok(connection.clone()),
            Link::Down { since: Some(since), why } if since.elapsed() < PAUSE => return Err(why.clone()),
            Link::Down { .. } => {}
        }
        let why = match timeout(ANSWER_TIMEOUT, self.server.connect()).await {
            Ok(Ok(connection)) => {
                let number = self.connections.fetch_add(1, Ordering::Relaxed);
                let connection = Numbered { number, connection };
                *link = Link::Up(connection.clone());
                return Ok(connection);
            }
            Ok(Err(error)) => reason(&error),
            Err(_) => "no connection in time".to_owned(),
        };
        *link = Link::Down { since: Some(Instant::now()), why: why.clone() };
        Err(why)
    }

    /// Gives up a connection that failed, unless that has been done.
    async fn give_up(&self, number: u64) {
        let mut link = self.connection.lock().await;
        if matches!(&*link, Link::Up(connection) if connection.number == number) {
            *link = Link::Down { since: None, why: String::new() };
        }
    }

    /// Does a command, or several in one step. `again`: whether it may be done twice, when a connection fails on the way.
    async fn call<T: FromRedisValue>(&self, commands: &Pipeline, again: bool) -> Result<T, CacheError> {
        let unavailable = CacheError::Unavailable;
        let deadline = Instant::now() + CALL_TIMEOUT;
        let mut attempts = if again { 2 } else { 1 };
        loop {
            attempts -= 1;
            let mut connection = timeout_at(deadline, self.connection())
                .await
                .map_err(|_| unavailable("no connection in time".to_owned()))?
                .map_err(unavailable)?;
            let answer = timeout_at(deadline, commands.query_async(&mut connection.connection)).await;
            let error = match answer {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => error,
                Err(_) => RedisError::from(std::io::Error::from(std::io::ErrorKind::TimedOut)),
            };
            if is_overflow(&error) {
                return Err(CacheError::Full("the counter is at its end"));
            }
            let lost = self.server.is_lost(&error);
            if lost {
                self.give_up(connection.number).await;
            }
            // Who did not answer will not do so now.
            if attempts == 0 || !lost || error.is_timeout() {
                return Err(unavailable(reason(&error)));
            }
        }
    }
}

impl Server {
    async fn connect(&self) -> RedisResult<Connection> {
        match self {
            Self::One(client) => {
                let config = AsyncConnectionConfig::new()
                    .set_connection_timeout(Some(ANSWER_TIMEOUT))
                    .set_response_timeout(Some(ANSWER_TIMEOUT));
                client.get_multiplexed_async_connection_with_config(&config).await.map(Connection::One)
            }
            Self::Cluster(client) => client.get_async_connection().await.map(Connection::Cluster),
        }
    }

    /// Whether an error is the connection's, which then has to be made anew. That of a server which does not answer is, too:
    /// the network may have lost it unnoticed. A cluster's client makes the connections to its nodes anew by itself; only when
    /// it knows no node any more it has to begin again.
    fn is_lost(&self, error: &RedisError) -> bool {
        match self {
            Self::One(_) => error.is_io_error() || error.is_unrecoverable_error(),
            Self::Cluster(_) => error.kind() == ErrorKind::ClusterConnectionNotFound,
        }
    }
}

impl fmt::Debug for Redis {
    /// Without the clients, which hold passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cluster = matches!(self.server, Server::Cluster(_));
        f.debug_struct("Redis")
            .field("cluster", &cluster)
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::One(connection) => connection.req_packed_command(cmd),
            Self::Cluster(connection) => connection.req_packed_command(cmd),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        cmd: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::One(connection) => connection.req_packed_commands(cmd, offset, count),
            Self::Cluster(connection) => connection.req_packed_commands(cmd, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::One(connection) => connection.get_db(),
            Self::Cluster(connection) => connection.get_db(),
        }
    }
}

#[async_trait]
impl Cache for Redis {
    async fn get(&self, key: &str) -> Result<Option<Bytes>, CacheError> {
        let (value,): (Option<Bytes>,) = self.call(redis::pipe().get(self.value(key)), true).await?;
        Ok(value)
    }

    async fn set(&self, key: &str, value: Bytes, ttl: Duration) -> Result<(), CacheError> {
        check(key, &value)?;
        self.call(redis::pipe().pset_ex(self.value(key), &value[..], milliseconds(ttl)).ignore(), true).await
    }

    async fn remove(&self, key: &str) -> Result<(), CacheError> {
        // Three keys of a cluster are of three servers.
        for key in [self.value(key), self.group(key), self.counter(key)] {
            let () = self.call(redis::pipe().del(key).ignore(), true).await?;
        }
        Ok(())
    }

    async fn set_members(
        &self,
        group: &str,
        members: Vec<(String, Bytes)>,
        ttl: Duration,
    ) -> Result<(), CacheError> {
        for (name, value) in &members {
            check(name, value)?;
        }
        check(group, &[])?;
        if members.is_empty() {
            return Ok(());
        }
        let key = self.group(group);
        let members: Vec<(&str, &[u8])> =
            members.iter().map(|(name, value)| (&name[..], &value[..])).collect();
        let mut commands = redis::pipe();
        commands.atomic();
        commands.hset_multiple(&key, &members).ignore();
        commands.pexpire(&key, i64::try_from(milliseconds(ttl)).unwrap_or(i64::MAX)).ignore();
        self.call(&commands, true).await
    }

    async fn members(&self, group: &str) -> Result<Vec<(String, Bytes)>, CacheError> {
        let (members,): (Vec<(Bytes, Bytes)>,) =
            self.call(redis::pipe().hgetall(self.group(group)), true).await?;
        // A name that is no text is none of ours.
        let named = |(name, value): (Bytes, Bytes)| Some((String::from_utf8(name.into()).ok()?, value));
        Ok(members.into_iter().filter_map(named).collect())
    }

    async fn remove_members(&self, group: &str, members: &[String]) -> Result<(), CacheError> {
        if members.is_empty() {
            return Ok(());
        }
        self.call(redis::pipe().hdel(self.group(group), members).ignore(), true).await
    }

    async fn add(&self, key: &str, by: i64, ttl: Duration) -> Result<i64, CacheError> {
        check(key, &[])?;
        let key = self.counter(key);
        let mut commands = redis::pipe();
        commands.atomic();
        // Not by a script: the numbers of Lua are exact up to 2^53 only.
        commands.cmd("SET").arg(&key).arg(0).arg("PX").arg(milliseconds(ttl)).arg("NX").ignore();
        commands.cmd("INCRBY").arg(&key).arg(by);
        let (count,): (i64,) = self.call(&commands, false).await?;
        Ok(count)
    }
}

fn milliseconds(ttl: Duration) -> u64 {
    u64::try_from(countable(ttl).as_millis()).unwrap_or(u64::MAX)
}

/// Whether Redis refused to count further.
fn is_overflow(error: &RedisError) -> bool {
    error.to_string().contains("would overflow")
}

/// What an error says. Redis and its client quote neither URLs nor passwords.
fn reason(error: &RedisError) -> String {
    error.to_string()
}
