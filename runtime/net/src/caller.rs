//! On whose behalf sockets are made, and what a container may reach with them.

use std::{
    collections::{BTreeMap, VecDeque},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use parking_lot::Mutex;
use windlass_runtime_api::{PodNames, Reach};

use crate::{
    reach::{Dialled, Surroundings, Verdict, judge},
    table::Table,
};

/// The pod on whose behalf a socket is made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodRef {
    pub uid: String,
    pub namespace: String,
    pub name: String,
    /// None: it has no socket of its own, and calls come from the node.
    pub address: Option<IpAddr>,
    /// What names mean to it.
    pub names: Arc<PodNames>,
}

/// A container that calls. A list of allowed hosts names hosts, but a socket dials an address: so
/// which names a container was told an address for is remembered.
#[derive(Debug, Default)]
pub struct Caller {
    pub pod: PodRef,
    pub reach: Reach,
    told: Mutex<Told>,
}

/// Addresses that a container is remembered to have been told; the oldest is forgotten first.
const MAX_TOLD: usize = 1024;
/// Names of one address.
const MAX_NAMES: usize = 16;

#[derive(Debug, Default)]
struct Told {
    names: BTreeMap<IpAddr, Vec<String>>,
    order: VecDeque<IpAddr>,
}

impl Caller {
    /// A container of a pod, with what narrows its reach.
    pub fn new(pod: PodRef, reach: Reach) -> Self {
        Self { pod, reach, told: Mutex::default() }
    }

    /// Remembers the addresses that the container was told for a name.
    pub(crate) fn tell(&self, name: &str, addresses: &[IpAddr]) {
        if self.reach.lists.is_empty() {
            // Nobody will ask.
            return;
        }
        let mut told = self.told.lock();
        for ip in addresses {
            let names = told.names.entry(*ip).or_default();
            if names.iter().any(|known| known == name) {
                continue;
            }
            if names.len() >= MAX_NAMES {
                names.remove(0);
            }
            names.push(name.to_owned());
            if names.len() == 1 {
                told.order.push_back(*ip);
            }
            if told.order.len() > MAX_TOLD
                && let Some(oldest) = told.order.pop_front()
            {
                told.names.remove(&oldest);
            }
        }
    }

    /// May it reach an address that it calls by this name, or by the address alone?
    pub(crate) fn may_reach(
        &self,
        scheme: &str,
        name: Option<&str>,
        address: SocketAddr,
        around: &Surroundings<'_>,
        table: &Table,
    ) -> Verdict {
        let mut names = Vec::new();
        if !self.reach.lists.is_empty() {
            names.extend(name.map(clean));
            names.extend(table.names_of(address.ip(), &self.pod.namespace));
            if name.is_none() {
                let told = self.told.lock();
                names.extend(told.names.get(&address.ip()).into_iter().flatten().cloned());
            }
        }
        judge(&self.reach, around, &Dialled { scheme, names: &names, address })
    }
}

/// A name as it is compared.
pub(crate) fn clean(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use windlass_runtime_api::AllowedHosts;

    use super::*;

    fn caller(list: &str) -> Caller {
        let lists = vec![AllowedHosts::parse("the list", list).expect("a list")];
        Caller::new(PodRef { namespace: "shop".into(), ..PodRef::default() }, Reach { lists })
    }

    fn may(caller: &Caller, name: Option<&str>, address: &str) -> bool {
        let around = Surroundings { own: None, cluster: &[], node: &[] };
        let address = address.parse().expect(address);
        let verdict = caller.may_reach("tcp", name, address, &around, &Table::default());
        verdict == Verdict::Allowed
    }

    #[test]
    fn an_address_is_allowed_by_the_name_it_was_told_for() {
        let caller = caller("a.example:443");
        assert!(may(&caller, Some("A.example."), "1.2.3.4:443"));
        assert!(!may(&caller, None, "1.2.3.4:443"));
        caller.tell("a.example", &["1.2.3.4".parse().expect("address")]);
        caller.tell("b.example", &["1.2.3.5".parse().expect("address")]);
        assert!(may(&caller, None, "1.2.3.4:443"));
        assert!(!may(&caller, None, "1.2.3.4:80"));
        assert!(!may(&caller, None, "1.2.3.5:443"));
        // What is called by a name is judged by that name.
        assert!(!may(&caller, Some("b.example"), "1.2.3.4:443"));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let caller = caller("*.example");
        for n in 0..3000_u32 {
            caller.tell(&format!("h{n}.example"), &[IpAddr::V4(n.into())]);
        }
        for n in 0..100 {
            caller.tell(&format!("n{n}.example"), &[IpAddr::V4(2999.into())]);
        }
        let told = caller.told.lock();
        assert_eq!((told.names.len(), told.order.len()), (MAX_TOLD, MAX_TOLD));
        assert!(told.names.values().all(|names| names.len() <= MAX_NAMES));
    }
}
