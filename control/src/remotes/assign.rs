//! Which origin does what is ordered: the same by all replicas that know the same.

use std::collections::HashMap;

use control_api::rpc;

use super::order::{Order, Way};
use crate::nodes::Known;
use crate::schedule::preference;

/// What each origin is to do, by its name. `holder` says which node has a stream.
pub(super) fn assign<'a>(
    orders: impl Iterator<Item = &'a Order>,
    nodes: &[Known],
    holder: impl Fn(&str) -> Option<String>,
) -> HashMap<String, rpc::Remotes> {
    let origins: Vec<&Known> = nodes.iter().filter(|known| known.record.role.is_origin()).collect();
    // Those that are there have a list each, be it an empty one.
    let mut all: HashMap<String, rpc::Remotes> =
        origins.iter().map(|known| (known.record.name.clone(), rpc::Remotes::default())).collect();
    for order in orders {
        let Order { app, name, url, udp, on_demand, .. } = order.clone();
        match order.way {
            Way::Push => {
                for remotes in all.values_mut() {
                    remotes.pushes.push(rpc::Push { app: app.clone(), name: name.clone(), url: url.clone() });
                }
            }
            Way::Pull => {
                let path = format!("{app}/{name}");
                let takers =
                    origins.iter().filter(|known| known.takes()).map(|known| known.record.name.as_str());
                let held = holder(&path).filter(|node| takers.clone().any(|taker| taker == node));
                let best =
                    || takers.clone().max_by_key(|taker| preference(taker, &path)).map(ToOwned::to_owned);
                let Some(remotes) = held.or_else(best).and_then(|node| all.get_mut(&node)) else { continue };
                remotes.pulls.push(rpc::Pull { app, name, url, udp, on_demand });
            }
        }
    }
    all
}
