//! ServiceCIDR: a range of addresses for services.

use std::net::IpAddr;

use serde_json::Value;
use windlass_sdk_meta::Timestamp;

use crate::{
    addresses,
    cause::{Causes, Path},
    strategies::common::{joined, keep_metadata},
    strategy::{Context, Separation, Strategy},
    table::{Cells, age, name},
    tree,
};

const MOST_RANGES: usize = 2;

#[derive(Debug)]
pub struct ServiceCidr;

impl Strategy for ServiceCidr {
    fn separation(&self) -> Separation {
        Separation::Status
    }

    fn prepare_for_update(&self, sub: &str, new: &mut Value, old: &Value, _cx: &Context<'_>) {
        if sub == "status" {
            keep_metadata(new, old);
        }
    }

    fn validate(&self, object: &Value, causes: &mut Causes) {
        let spec = Path::Root.child("spec");
        let (ranges, path) = (tree::list(&object["spec"], "cidrs"), spec.child("cidrs"));
        if ranges.is_empty() {
            return causes.required(path, "at least one CIDR required");
        }
        if ranges.len() > MOST_RANGES {
            return causes.invalid(path, &object["spec"], "may only hold up to 2 values");
        }
        let texts = || ranges.iter().map(|range| range.as_str().unwrap_or_default());
        for (at, range) in ranges.iter().enumerate() {
            addresses::validate_range(range, path.index(at), causes);
        }
        let families: Vec<bool> =
            texts().filter_map(parse).map(|(address, _)| address.is_ipv4()).collect();
        if families.len() == MOST_RANGES && families[0] == families[1] {
            let why = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64";
            causes.invalid(path, &object["spec"]["cidrs"], why);
        }
    }

    fn validate_update(&self, sub: &str, new: &Value, old: &Value, causes: &mut Causes) {
        if sub == "status" {
            return;
        }
        let (after, before) = (&new["spec"]["cidrs"], &old["spec"]["cidrs"]);
        let (after, before) = (after.as_array(), before.as_array());
        let (after, before) =
            (after.map_or(&[][..], Vec::as_slice), before.map_or(&[][..], Vec::as_slice));
        let spec = Path::Root.child("spec");
        let path = spec.child("cidrs");
        let grows = (before.len(), after.len()) == (1, 2);
        if before.len() != after.len() && !grows {
            return causes.invalid_or_null(path, &new["spec"]["cidrs"], "field is immutable");
        }
        for (at, range) in before.iter().enumerate().filter(|(at, range)| *range != &after[*at]) {
            let _ = range;
            causes.immutable(path.index(at), &after[at]);
        }
        if grows {
            self.validate(new, causes);
        }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Cells {
        let ranges = joined(tree::list(&object["spec"], "cidrs"));
        vec![name(object), ranges.into(), age(object, now)]
    }
}

fn parse(text: &str) -> Option<(IpAddr, u8)> {
    let (address, bits) = text.split_once('/')?;
    let (address, bits) = (address.parse::<IpAddr>().ok()?, bits.parse::<u8>().ok()?);
    (bits <= if address.is_ipv4() { 32 } else { 128 }).then_some((address, bits))
}
