//! Rules of what a node says of the devices and images that containers got.

use serde_json::Value;

use crate::{
    cause::{Causes, Path},
    names, tree,
};

const CLAIM: &str = "claim:";
const HEALTH: [&str; 3] = ["Healthy", "Unhealthy", "Unknown"];
const LONGEST_MESSAGE: usize = 1024;
const LONGEST_REFERENCE: usize = 256;

/// Rules of one list of container statuses; `containers` are those it is about.
pub fn allocated(
    status: &Value,
    spec: &Value,
    (list, of): (&str, &str),
    path: Path<'_>,
    causes: &mut Causes,
) {
    for (at, one) in tree::list(status, list).iter().enumerate() {
        let item = path.index(at);
        let here = item.child("allocatedResourcesStatus");
        let said = tree::list(one, "allocatedResourcesStatus");
        if of == "ephemeralContainers" {
            if !said.is_empty() {
                causes.forbidden(here, "must not be specified in container status");
            }
            continue;
        }
        let container = tree::list(spec, of).iter().find(|other| other["name"] == one["name"]);
        for (at, resource) in said.iter().enumerate() {
            let item = here.index(at);
            if let Some(why) = container.and_then(|container| unknown(resource, container, status))
            {
                causes.invalid(item.child("name"), &resource["name"], why);
            }
            health(resource, item.child("resources"), causes);
        }
    }
}

/// Why the container can't have been given the resource.
fn unknown(resource: &Value, container: &Value, status: &Value) -> Option<&'static str> {
    let name = tree::text(resource, "name");
    let Some(claim) = name.strip_prefix(CLAIM) else {
        let asked = tree::has(&container["resources"]["requests"], name);
        return (!asked).then_some("must match one of the container's resource requests");
    };
    let own = tree::list(&container["resources"], "claims").iter().any(|one| {
        let (name, request) = (tree::text(one, "name"), tree::text(one, "request"));
        claim == if request.is_empty() { name.to_owned() } else { format!("{name}/{request}") }
    });
    let extended = &status["extendedResourceClaimStatus"];
    let mapped = claim.split_once('/').is_some_and(|(claim, request)| {
        claim == tree::text(extended, "resourceClaimName")
            && tree::list(extended, "requestMappings").iter().any(|mapping| {
                let resource = tree::text(mapping, "resourceName");
                mapping["containerName"] == container["name"]
                    && tree::text(mapping, "requestName") == request
                    && tree::has(&container["resources"]["requests"], resource)
            })
    });
    (!own && !mapped).then_some("must match one of the container's resource claims as 'claim:<claimName>/<requestName>' when container.resources.claims[*].request is set or 'claim:<claimName>' when it is empty")
}

fn health(resource: &Value, path: Path<'_>, causes: &mut Causes) {
    let all = tree::list(resource, "resources");
    for (at, one) in all.iter().enumerate() {
        let item = path.index(at);
        if !HEALTH.contains(&tree::text(one, "health")) {
            causes.not_supported(item.child("health"), &one["health"], &HEALTH);
        }
        if let Some(message) = one["message"].as_str() {
            if message.is_empty() {
                causes.required(item.child("message"), "must be non-empty if specified");
            } else if message.len() > LONGEST_MESSAGE {
                causes.too_long(item.child("message"), LONGEST_MESSAGE);
            }
        }
        if all[..at].iter().any(|other| other["resourceID"] == one["resourceID"]) {
            causes.duplicate(item.child("resourceID"), &one["resourceID"]);
        }
    }
}

/// Rules of what is said of mounted images.
pub fn images(status: &Value, list: &str, path: Path<'_>, causes: &mut Causes) {
    for (at, one) in tree::list(status, list).iter().enumerate() {
        let item = path.index(at);
        let mounts = item.child("volumeMounts");
        for (at, mount) in tree::list(one, "volumeMounts").iter().enumerate() {
            let image = &mount["volumeStatus"]["image"];
            let item = mounts.index(at);
            let here = item.child("volumeStatus");
            let here = here.child("imageVolumeStatus");
            if image.is_null() {
                continue;
            }
            match tree::text(image, "imageRef") {
                "" => causes.required(here.child("imageRef"), "imageRef must not be empty"),
                text if text.len() > LONGEST_REFERENCE => {
                    causes.too_long(here.child("imageRef"), LONGEST_REFERENCE);
                }
                _ => {}
            }
        }
    }
}

/// Rules of the claim that stands for a pod's extended resources.
pub fn extended(status: &Value, spec: &Value, path: Path<'_>, causes: &mut Causes) {
    let said = &status["extendedResourceClaimStatus"];
    if said.is_null() {
        return;
    }
    let here = path.child("extendedResourceClaimStatus");
    let (list, all) = (here.child("requestMappings"), tree::list(said, "requestMappings"));
    if all.is_empty() {
        causes.required(list, "at least one request mapping is required");
    }
    for (at, mapping) in all.iter().enumerate() {
        let item = list.index(at);
        let lists = ["initContainers", "containers"];
        let mut containers = lists.iter().flat_map(|list| tree::list(spec, list));
        let resource = tree::text(mapping, "resourceName");
        match containers.find(|one| one["name"] == mapping["containerName"]) {
            Some(one) if tree::has(&one["resources"]["requests"], resource) => {}
            Some(_) => {
                let why = "must match the extended resource name of an entry in spec.initContainers.resources.requests or spec.containers.resources.requests";
                causes.invalid(item.child("resourceName"), &mapping["resourceName"], why);
            }
            None => {
                let why = "must match the name of an entry in spec.initContainers.name or spec.containers.name";
                causes.invalid(item.child("containerName"), &mapping["containerName"], why);
            }
        }
        let request = tree::text(mapping, "requestName");
        causes.complaints(here.child("requestName"), request, names::label(request));
        if all[..at].contains(mapping) {
            for key in ["containerName", "resourceName", "requestName"] {
                causes.duplicate(item.child(key), &mapping[key]);
            }
        }
    }
    match tree::text(said, "resourceClaimName") {
        "" => causes.required(here.child("resourceClaimName"), ""),
        name => causes.complaints(here.child("resourceClaimName"), name, names::subdomain(name)),
    }
}
