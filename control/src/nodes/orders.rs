//! What nodes are told, be it that another replica hears them: then it waits for that one in the registry, as an order.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use control_api::rpc;
use control_api::rpc::command::Command;

use super::{DRAINS, Nodes, Record};
use crate::registry::{Change, Entry, Expect, RegistryError};
use crate::replica::follow::Step;

/// Of orders, in the registry.
pub(super) const PREFIX: &str = "orders/";

/// How long an order waits for the replica that hears the node.
const TTL: Duration = Duration::from_secs(30);

impl Nodes {
    /// Tells a node something, wherever it is heard. `false`: there is none of that name.
    pub(crate) async fn tell(&self, name: &str, command: Command) -> Result<bool, RegistryError> {
        self.tell_process(name, None, command).await
    }

    /// The same; if `instance` is given, only that process of the name.
    async fn tell_process(
        &self,
        name: &str,
        instance: Option<u64>,
        command: Command,
    ) -> Result<bool, RegistryError> {
        if self.tell_here(name, instance, command.clone()) {
            return Ok(true);
        }
        // As the registry has it: this replica may have just begun.
        let Some(entry) = self.0.registry.get(&Record::key(name)).await? else { return Ok(false) };
        let Some(record) = super::read(&entry) else { return Ok(false) };
        let number = self.0.next_order.fetch_add(1, Ordering::Relaxed);
        // It may wait for longer than the process is there: one that follows it is not meant.
        let instance = instance.unwrap_or(record.instance);
        let key = format!("{PREFIX}{name}/{instance:016x}-{}-{number}", self.0.replica);
        let lease = self.0.registry.lease(TTL).await?;
        let command = rpc::Command { command: Some(command) };
        let value = Bytes::from(prost::Message::encode_to_vec(&command));
        self.0.registry.put(&key, value, Expect::Anything, Some(lease)).await?;
        Ok(true)
    }

    /// Tells a node that this replica hears.
    fn tell_here(&self, name: &str, instance: Option<u64>, command: Command) -> bool {
        let heard = self.0.heard.lock();
        let node = heard.get(name).filter(|node| instance.is_none_or(|instance| node.instance == instance));
        node.is_some_and(|node| node.commands.try_send(rpc::Command { command: Some(command) }).is_ok())
    }

    /// Wants a node drained, or no longer. A process that follows it is not. `false`: there is none of that name.
    pub(crate) async fn drain(&self, name: &str, undo: bool) -> Result<bool, RegistryError> {
        let Some(known) = self.get(name) else { return Ok(false) };
        let (key, instance) = (format!("{DRAINS}{name}"), known.record.instance);
        if undo {
            self.0.registry.delete(&key, Expect::Anything).await?;
        } else {
            let value = Bytes::from(instance.to_string());
            self.0.registry.put(&key, value, Expect::Anything, None).await?;
        }
        self.tell_process(name, Some(instance), Command::Drain(rpc::Drain { undo })).await
    }

    /// Hands orders of other replicas to the nodes that this one hears. Those that are done are returned.
    pub(super) fn apply_orders(&self, step: Step) -> Vec<String> {
        let entries = match step {
            Step::All(entries) => entries,
            Step::Changes(changes) => changes
                .into_iter()
                .filter_map(|change| match change {
                    Change::Put(entry) => Some(entry),
                    Change::Deleted { .. } => None,
                })
                .collect(),
        };
        entries.into_iter().filter_map(|entry| self.carry_out(&entry).then_some(entry.key)).collect()
    }

    /// Carries out what was ordered while nobody heard a node.
    pub(super) async fn orders_for(&self, name: &str) -> Result<(), RegistryError> {
        for entry in self.0.registry.list(&format!("{PREFIX}{name}/")).await?.entries {
            if self.carry_out(&entry) {
                self.0.registry.delete(&entry.key, Expect::Anything).await?;
            }
        }
        Ok(())
    }

    fn carry_out(&self, entry: &Entry) -> bool {
        let whose = || {
            let (name, rest) = entry.key.strip_prefix(PREFIX)?.split_once('/')?;
            let (instance, _) = rest.split_once('-')?;
            Some((name, u64::from_str_radix(instance, 16).ok()?))
        };
        let command: Option<rpc::Command> = prost::Message::decode(entry.value.clone()).ok();
        match (whose(), command.and_then(|command| command.command)) {
            (Some((name, instance)), Some(command)) => self.tell_here(name, Some(instance), command),
            _ => false,
        }
    }
}
