//! A registry in etcd: what several replicas of the control plane agree on.
//!
//! One member of the etcd cluster is spoken to until it fails; then the next. Every call is bounded, and a watch whose
//! member hangs ends with an error, so that whoever reads it goes to another.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use etcd_client::{
    Certificate, Client, Compare, CompareOp, ConnectOptions, DeleteOptions, Error, EventType, GetOptions,
    KeyValue, PutOptions, TlsOptions, Txn, TxnOp, TxnOpResponse, TxnResponse, WatchOptions, WatchResponse,
    WatchStream,
};
use parking_lot::Mutex;
use tokio::sync::OnceCell;
use tokio::time::{Instant, timeout_at};
use tonic::Code;

use super::{
    Change, Config, ConfigError, Entry, Expect, LeaseId, MAX_TTL, Registry, RegistryError, Revision,
    Snapshot, Watch, check,
};

/// A call takes no longer.
const CALL_TIMEOUT: Duration = Duration::from_secs(3);
/// Nor does a connection, so that a call can try another member in its time.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// A connection with calls or watches on it is asked for a sign of life so often: etcd cuts off who asks more than once in
/// five seconds (`--grpc-keepalive-min-time`).
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(6);
/// It is dead when it gives none for so long.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(3);
/// Values that are asked for at once.
const PAGE: i64 = 1000;
/// The largest answer: a page, or the 1000 changes that etcd sends at once to a watch that is behind, of the longest values.
const MAX_ANSWER_BYTES: usize = 48 << 20;

/// A registry in etcd.
pub struct Etcd {
    prefix: String,
    members: Vec<Member>,
    /// Which member is spoken to.
    current: AtomicUsize,
    options: ConnectOptions,
}

struct Member {
    endpoint: String,
    /// Made at the first use, because etcd asks for the password then. One that gave no answer in time is made anew: the
    /// network may have lost its connection unnoticed, and TCP takes many minutes to find out.
    client: Mutex<Arc<OnceCell<Client>>>,
}

impl Etcd {
    /// The registry of a configuration; nothing is connected yet.
    pub fn new(config: &Config) -> Result<Self, ConfigError> {
        let wrong = |key, what: &str| Err(ConfigError { key, what: what.to_owned() });
        if config.prefix.is_empty() {
            return wrong("prefix", "it can't be empty");
        }
        let tls = config.endpoints.iter().filter(|endpoint| endpoint.starts_with("https://")).count();
        if config.endpoints.is_empty() {
            return wrong("endpoints", "there has to be one");
        }
        if tls != 0 && tls != config.endpoints.len() {
            return wrong("endpoints", "either all of them are https:// or none");
        }
        for endpoint in &config.endpoints {
            match url::Url::parse(endpoint) {
                // What is wrong is not quoted: it may be a password.
                Ok(url) if !url.username().is_empty() || url.password().is_some() => {
                    return wrong("endpoints", "user and password have keys of their own");
                }
                Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => {}
                _ => return wrong("endpoints", "they look like http://host:2379"),
            }
        }
        let mut options = ConnectOptions::new()
            .with_connect_timeout(CONNECT_TIMEOUT)
            .with_keep_alive(KEEP_ALIVE_INTERVAL, KEEP_ALIVE_TIMEOUT)
            .with_require_leader(true);
        match (&config.user, &config.password) {
            (Some(user), Some(password)) => {
                options = options.with_user(user, password.reveal()).with_auto_token_refresh(true);
            }
            (None, None) => {}
            (Some(_), None) => return wrong("password", "the user needs one"),
            (None, Some(_)) => return wrong("user", "whose password is it?"),
        }
        match &config.ca_file {
            Some(_) if tls == 0 => return wrong("ca_file", "no endpoint is https://"),
            Some(file) => match std::fs::read(file) {
                Ok(pem) => {
                    options = options.with_tls(TlsOptions::new().ca_certificate(Certificate::from_pem(pem)));
                }
                Err(error) => return wrong("ca_file", &format!("{}: {error}", file.display())),
            },
            None if tls != 0 => options = options.with_tls(TlsOptions::new().with_native_roots()),
            None => {}
        }
        let members = config
            .endpoints
            .iter()
            .map(|endpoint| Member { endpoint: endpoint.clone(), client: Mutex::default() })
            .collect();
        Ok(Self { prefix: config.prefix.clone(), members, current: AtomicUsize::new(0), options })
    }

    /// Asks a member, and another one if that can't be connected to. An error after that is not tried again: what was asked
    /// may have been done.
    async fn call<T, F>(&self, ask: impl Fn(Client) -> F + Send + Sync) -> Result<T, RegistryError>
    where
        F: Future<Output = Result<T, Error>> + Send,
    {
        let deadline = Instant::now() + CALL_TIMEOUT;
        // A connection that failed while nobody waited for it is only told to the next call: hence two at least.
        let mut attempts = self.members.len().max(2);
        loop {
            attempts -= 1;
            let at = self.current.load(Ordering::Relaxed);
            let Some(member) = self.members.get(at) else { return Err(unavailable("there is no member")) };
            let client = member.client.lock().clone();
            let error = match timeout_at(deadline, self.ask(member, &client, &ask)).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => error,
                Err(_) => {
                    member.forget(&client);
                    self.leave(at);
                    return Err(unavailable("no answer in time"));
                }
            };
            let failure = failure(&error);
            if matches!(failure, RegistryError::Unavailable(_)) {
                self.leave(at);
            }
            if attempts == 0 || !was_not_sent(&error) {
                return Err(failure);
            }
        }
    }

    async fn ask<T, F>(
        &self,
        member: &Member,
        client: &OnceCell<Client>,
        ask: impl Fn(Client) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>> + Send,
    {
        let connect = || Client::connect([&member.endpoint], Some(self.options.clone()));
        ask(client.get_or_try_init(connect).await?.clone()).await
    }

    /// Goes on to the member after one that failed, unless another call did.
    fn leave(&self, at: usize) {
        let next = (at + 1) % self.members.len().max(1);
        let _ = self.current.compare_exchange(at, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    fn full(&self, key: &str) -> String {
        [&self.prefix, key].concat()
    }

    async fn transaction(
        &self,
        key: &str,
        expect: Expect,
        then: TxnOp,
    ) -> Result<Option<TxnResponse>, RegistryError> {
        let compare = match expect {
            Expect::Anything => None,
            Expect::Absent => Some(Compare::create_revision(key, CompareOp::Equal, 0)),
            // 0 is what etcd says of a value that is not there, and no revision.
            Expect::At(Revision(0)) => return Ok(None),
            Expect::At(Revision(revision)) => match i64::try_from(revision) {
                Ok(revision) => Some(Compare::mod_revision(key, CompareOp::Equal, revision)),
                Err(_) => return Ok(None),
            },
        };
        let transaction = Txn::new().when(Vec::from_iter(compare)).and_then([then]);
        let answer = self
            .call(|client| {
                let transaction = transaction.clone();
                async move { client.kv_client().txn(transaction).await }
            })
            .await?;
        Ok(answer.succeeded().then_some(answer))
    }
}

impl Member {
    /// Gives a client up, unless another call did.
    fn forget(&self, client: &Arc<OnceCell<Client>>) {
        let mut current = self.client.lock();
        if Arc::ptr_eq(&current, client) {
            *current = Arc::default();
        }
    }
}

impl fmt::Debug for Etcd {
    /// Without the options, which hold the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let endpoints: Vec<&str> = self.members.iter().map(|member| member.endpoint.as_str()).collect();
        f.debug_struct("Etcd")
            .field("endpoints", &endpoints)
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Registry for Etcd {
    async fn get(&self, key: &str) -> Result<Option<Entry>, RegistryError> {
        let full = self.full(key);
        let mut answer = self
            .call(|client| {
                let full = full.clone();
                async move { client.kv_client().get(full, None).await }
            })
            .await?;
        Ok(answer.take_kvs().pop().and_then(|found| entry(found, &self.prefix)))
    }

    async fn list(&self, prefix: &str) -> Result<Snapshot, RegistryError> {
        let full = self.full(prefix);
        let mut from = full.clone().into_bytes();
        let mut snapshot = Snapshot { entries: Vec::new(), revision: Revision(0) };
        loop {
            let mut options = GetOptions::new().with_range(end_of(&full)).with_limit(PAGE);
            if snapshot.revision != Revision(0) {
                options = options.with_revision(snapshot.revision.0.cast_signed());
            }
            let mut answer = self
                .call(|client| {
                    let (from, options) = (from.clone(), options.clone());
                    async move {
                        let mut kv = client.kv_client().max_decoding_message_size(MAX_ANSWER_BYTES);
                        kv.get(from, Some(options)).await
                    }
                })
                .await?;
            if snapshot.revision == Revision(0) {
                snapshot.revision = revision_of(answer.header())?;
            }
            let found = answer.take_kvs();
            match found.last() {
                // The smallest name after the last one.
                Some(last) if answer.more() => from = [last.key(), &[0]].concat(),
                _ => {
                    snapshot.entries.extend(found.into_iter().filter_map(|found| entry(found, &self.prefix)));
                    return Ok(snapshot);
                }
            }
            snapshot.entries.extend(found.into_iter().filter_map(|found| entry(found, &self.prefix)));
        }
    }

    async fn put(
        &self,
        key: &str,
        value: Bytes,
        expect: Expect,
        lease: Option<LeaseId>,
    ) -> Result<Option<Revision>, RegistryError> {
        check(key, &value)?;
        let full = self.full(key);
        let options = lease.map(|lease| PutOptions::new().with_lease(lease.0));
        let answer = self.transaction(&full, expect, TxnOp::put(full.as_str(), value, options)).await?;
        answer.map(|answer| revision_of(answer.header())).transpose()
    }

    async fn delete(&self, key: &str, expect: Expect) -> Result<bool, RegistryError> {
        let full = self.full(key);
        let answer =
            self.transaction(&full, expect, TxnOp::delete(full.as_str(), None::<DeleteOptions>)).await?;
        Ok(answer.is_some_and(|answer| {
            let deleted =
                |part: &TxnOpResponse| matches!(part, TxnOpResponse::Delete(gone) if gone.deleted() > 0);
            answer.op_responses().iter().any(deleted)
        }))
    }

    async fn lease(&self, ttl: Duration) -> Result<LeaseId, RegistryError> {
        let ttl = ttl.min(MAX_TTL);
        let seconds = ttl.as_secs().saturating_add(u64::from(ttl.subsec_nanos() > 0)).max(1).cast_signed();
        let answer =
            self.call(|client| async move { client.lease_client().grant(seconds, None).await }).await?;
        Ok(LeaseId(answer.id()))
    }

    async fn renew(&self, lease: LeaseId) -> Result<(), RegistryError> {
        // Asks once, and ends the stream.
        self.call(|client| async move { client.lease_client().keep_alive(lease.0).await }).await?;
        Ok(())
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), RegistryError> {
        match self.call(|client| async move { client.lease_client().revoke(lease.0).await }).await {
            Ok(_) | Err(RegistryError::LeaseEnded) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn watch(&self, prefix: &str, after: Revision) -> Result<Box<dyn Watch>, RegistryError> {
        let full = self.full(prefix);
        let from = i64::try_from(after.0).unwrap_or(i64::MAX).saturating_add(1);
        let options = WatchOptions::new().with_range(end_of(&full)).with_start_revision(from);
        let (stream, first) = self
            .call(|client| {
                let (full, options) = (full.clone(), options.clone());
                async move {
                    let mut client = client.watch_client().max_decoding_message_size(MAX_ANSWER_BYTES);
                    let mut stream = client.watch(full, Some(options)).await?;
                    // Says that the watch is set up, or why not.
                    let first = stream.message().await?;
                    Ok((stream, first))
                }
            })
            .await?;
        let first = changes(first, &self.prefix)?;
        Ok(Box::new(Watcher { stream, first, prefix: self.prefix.clone() }))
    }
}

struct Watcher {
    stream: WatchStream,
    /// What came with the answer that set it up.
    first: Vec<Change>,
    prefix: String,
}

#[async_trait]
impl Watch for Watcher {
    async fn next(&mut self) -> Result<Vec<Change>, RegistryError> {
        if !self.first.is_empty() {
            return Ok(std::mem::take(&mut self.first));
        }
        loop {
            let answer = self.stream.message().await.map_err(|error| failure(&error))?;
            let changes = changes(answer, &self.prefix)?;
            if !changes.is_empty() {
                return Ok(changes);
            }
        }
    }
}

/// What a watch's stream says: `None` is its end.
fn changes(answer: Option<WatchResponse>, prefix: &str) -> Result<Vec<Change>, RegistryError> {
    let answer = answer.ok_or_else(|| unavailable("the watch has ended"))?;
    if answer.compact_revision() > 0 {
        return Err(RegistryError::Compacted);
    }
    if answer.canceled() {
        return Err(unavailable(answer.cancel_reason()));
    }
    let change = |event: &etcd_client::Event| {
        let entry = entry(event.kv()?.clone(), prefix)?;
        Some(match event.event_type() {
            EventType::Put => Change::Put(entry),
            EventType::Delete => Change::Deleted { key: entry.key, revision: entry.revision },
        })
    };
    Ok(answer.events().iter().filter_map(change).collect())
}

/// A value as etcd has it. `None`: its name is no text, so that it is none of ours.
fn entry(found: KeyValue, prefix: &str) -> Option<Entry> {
    let revision = Revision(u64::try_from(found.mod_revision()).ok()?);
    let (key, value) = found.into_key_value();
    let key = String::from_utf8(key).ok()?.strip_prefix(prefix)?.to_owned();
    Some(Entry { key, value: Bytes::from(value), revision })
}

/// What comes right after all names that begin with a prefix, which is not empty.
fn end_of(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    // No byte of UTF-8 is the highest one.
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end
}

fn revision_of(header: Option<&etcd_client::ResponseHeader>) -> Result<Revision, RegistryError> {
    let revision = header.and_then(|header| u64::try_from(header.revision()).ok());
    revision.map(Revision).ok_or_else(|| unavailable("the answer has no revision"))
}

fn unavailable(why: &str) -> RegistryError {
    RegistryError::Unavailable(why.to_owned())
}

/// What an error of etcd means here.
fn failure(error: &Error) -> RegistryError {
    match error {
        // Said of a lease that has ended, by etcd or in its name.
        Error::LeaseKeepAliveError(_) => RegistryError::LeaseEnded,
        Error::GRpcStatus(status) => match status.code() {
            Code::NotFound if status.message().contains("lease not found") => RegistryError::LeaseEnded,
            Code::OutOfRange if status.message().contains("compacted") => RegistryError::Compacted,
            Code::ResourceExhausted if status.message().contains("space exceeded") => {
                RegistryError::Full("etcd's space is used up")
            }
            _ => RegistryError::Unavailable(root(status)),
        },
        _ => RegistryError::Unavailable(root(error)),
    }
}

/// What an error says, and what the first cause of it does. Neither etcd nor its client quotes a password.
fn root(error: &(dyn std::error::Error + 'static)) -> String {
    let said = match error.downcast_ref::<tonic::Status>() {
        Some(status) => status.message().to_owned(),
        None => error.to_string(),
    };
    match causes(error).last().map(ToString::to_string) {
        Some(cause) if !said.contains(&cause) => format!("{said}: {cause}"),
        _ => said,
    }
}

/// Whether the member could not even be connected to.
fn was_not_sent(error: &Error) -> bool {
    match error {
        Error::GRpcStatus(status) => causes(status).any(|cause| cause.is::<tonic::ConnectError>()),
        _ => false,
    }
}

fn causes<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(error.source(), |cause| cause.source())
}
