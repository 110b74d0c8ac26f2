//! Rules of security contexts, of a pod and of its containers.

use serde_json::Value;

use super::volumes::{descending, user_id};
use crate::{
    cause::{Causes, Path},
    names, shown, tree,
};

const PROFILES: [&str; 3] = ["Localhost", "RuntimeDefault", "Unconfined"];
const MOST_PROFILE_BYTES: usize = 4095;
const SYSCTL_BYTES: usize = 253;
const SYSCTL: &str = "^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";
const MOST_CREDENTIAL_KIB: usize = 64;
const MOST_DOMAIN: usize = 256;
const MOST_USER: usize = 104;
const NOT_ON_WINDOWS: &str = "cannot be set for a windows pod";

/// Rules of a pod's own security context.
pub fn validate_pod(spec: &Value, path: Path<'_>, causes: &mut Causes) {
    let of = &spec["securityContext"];
    let here = path.child("securityContext");
    for key in ["fsGroup", "runAsUser", "runAsGroup"] {
        user_id(of, key, here, causes);
    }
    let groups = here.child("supplementalGroups");
    for (at, group) in tree::list(of, "supplementalGroups").iter().enumerate() {
        let most = i64::from(i32::MAX);
        if group.as_i64().is_some_and(|id| !(0..=most).contains(&id)) {
            let why = format!("must be between 0 and {most}, inclusive");
            causes.invalid(groups.index(at), group, why);
        }
    }
    sysctls(spec, here.child("sysctls"), causes);
    for (key, known) in [
        ("fsGroupChangePolicy", ["Always", "OnRootMismatch"]),
        ("supplementalGroupsPolicy", ["Merge", "Strict"]),
        ("seLinuxChangePolicy", ["MountOption", "Recursive"]),
    ] {
        if tree::has(of, key) && !known.contains(&tree::text(of, key)) {
            causes.not_supported(here.child(key), &of[key], &known);
        }
    }
    profiles(of, here, causes);
    if tree::flag(spec, "hostPID") && tree::flag(spec, "shareProcessNamespace") {
        let why = "ShareProcessNamespace and HostPID cannot both be enabled";
        causes.invalid(path.child("shareProcessNamespace"), &Value::Bool(true), why);
    }
}

/// Rules of a container's security context; `host_users`: the pod is in the host's user namespace.
pub fn validate_container(of: &Value, host_users: bool, path: Path<'_>, causes: &mut Causes) {
    if of.is_null() {
        return;
    }
    for key in ["runAsUser", "runAsGroup"] {
        user_id(of, key, path, causes);
    }
    let (key, known) = ("procMount", ["Default", "Unmasked"]);
    if tree::has(of, key) && !known.contains(&tree::text(of, key)) {
        causes.not_supported(path.child(key), &of[key], &known);
    }
    if host_users && of[key] == "Unmasked" {
        let why = "`hostUsers` must be false to use `Unmasked`";
        causes.invalid(path.child(key), &of[key], why);
    }
    if of["allowPrivilegeEscalation"] == false && tree::flag(of, "privileged") {
        let why = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
        causes.invalid(path, &shown::internal(of, "core.v1.SecurityContext"), why);
    }
    let added = tree::list(&of["capabilities"], "add");
    if of["allowPrivilegeEscalation"] == false && added.iter().any(|one| one == "CAP_SYS_ADMIN") {
        let shown = shown::internal(of, "core.v1.SecurityContext");
        let why =
            "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
        causes.invalid(path, &shown, why);
    }
    profiles(of, path, causes);
}

fn profiles(of: &Value, path: Path<'_>, causes: &mut Causes) {
    seccomp(&of["seccompProfile"], path.child("seccompProfile"), causes);
    windows_options(&of["windowsOptions"], path.child("windowsOptions"), causes);
    app_armor(&of["appArmorProfile"], path.child("appArmorProfile"), causes);
}

fn seccomp(of: &Value, path: Path<'_>, causes: &mut Causes) {
    if of.is_null() {
        return;
    }
    let kind = tree::text(of, "type");
    match kind {
        "" => causes.required(path.child("type"), "type is required when seccompProfile is set"),
        kind if !PROFILES.contains(&kind) => {
            causes.not_supported(path.child("type"), &of["type"], &PROFILES);
        }
        _ => {}
    }
    let here = path.child("localhostProfile");
    match (kind == "Localhost", tree::has(of, "localhostProfile")) {
        (true, false) => causes.required(here, "must be set when seccomp type is Localhost"),
        (true, true) => descending(tree::text(of, "localhostProfile"), here, causes),
        (false, true) => {
            let shown = shown::internal(of, "core.v1.SeccompProfile");
            causes.invalid(here, &shown, "can only be set when seccomp type is Localhost");
        }
        (false, false) => {}
    }
}

fn app_armor(of: &Value, path: Path<'_>, causes: &mut Causes) {
    if of.is_null() {
        return;
    }
    let profile = tree::text(of, "localhostProfile");
    let here = path.child("localhostProfile");
    let missing = "must be set when AppArmor type is Localhost";
    match tree::text(of, "type") {
        "" => causes.required(path.child("type"), "type is required when appArmorProfile is set"),
        "Localhost" if !tree::has(of, "localhostProfile") => causes.required(here, missing),
        "Localhost" => {
            if profile.trim() != profile {
                causes.invalid_text(here, profile, "must not be padded with whitespace");
            } else if profile.is_empty() {
                causes.required(here, missing);
            }
            if profile.len() > MOST_PROFILE_BYTES {
                causes.too_long(here, MOST_PROFILE_BYTES);
            }
        }
        "RuntimeDefault" | "Unconfined" => {
            if tree::has(of, "localhostProfile") {
                let why = "can only be set when AppArmor type is Localhost";
                causes.invalid_text(here, profile, why);
            }
        }
        _ => causes.not_supported(path.child("type"), &of["type"], &PROFILES),
    }
}

fn sysctls(spec: &Value, path: Path<'_>, causes: &mut Causes) {
    let all = tree::list(&spec["securityContext"], "sysctls");
    for (at, sysctl) in all.iter().enumerate() {
        let name = tree::text(sysctl, "name");
        let item = path.index(at);
        let here = item.child("name");
        if name.is_empty() {
            causes.required(here, "");
        } else if !is_sysctl(name) {
            let why =
                format!("must have at most {SYSCTL_BYTES} characters and match regex {SYSCTL}");
            causes.invalid_text(here, name, why);
        } else if all[..at].iter().any(|other| tree::text(other, "name") == name) {
            causes.duplicate(here, &sysctl["name"]);
        }
        let dotted = name.replace('/', ".");
        let of_net = dotted.starts_with("net.");
        let of_ipc = dotted.starts_with("kernel.shm")
            || dotted.starts_with("kernel.msg")
            || dotted.starts_with("fs.mqueue.")
            || dotted == "kernel.sem";
        for (shared, key) in [(of_net, "hostNetwork"), (of_ipc, "hostIPC")] {
            if shared && tree::flag(spec, key) {
                let why = format!("may not be specified when '{key}' is true");
                causes.invalid_text(here, name, why);
            }
        }
    }
}

fn is_sysctl(name: &str) -> bool {
    let plain = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let segment = |text: &str| {
        let bytes = text.as_bytes();
        bytes.first().is_some_and(plain)
            && bytes.last().is_some_and(plain)
            && bytes.iter().all(|byte| plain(byte) || b"-_".contains(byte))
    };
    name.len() <= SYSCTL_BYTES && name.split(['.', '/']).all(segment)
}

fn windows_options(of: &Value, path: Path<'_>, causes: &mut Causes) {
    if of.is_null() {
        return;
    }
    if tree::has(of, "gmsaCredentialSpecName") {
        let name = tree::text(of, "gmsaCredentialSpecName");
        causes.complaints(path.child("gmsaCredentialSpecName"), name, names::subdomain(name));
    }
    let here = path.child("gmsaCredentialSpec");
    let credential = tree::text(of, "gmsaCredentialSpec");
    if tree::has(of, "gmsaCredentialSpec") && credential.is_empty() {
        causes.invalid_text(here, "", "gmsaCredentialSpec cannot be an empty string");
    } else if credential.len() > MOST_CREDENTIAL_KIB * 1024 {
        let why = format!("gmsaCredentialSpec size must be under {MOST_CREDENTIAL_KIB} KiB");
        causes.invalid_text(here, credential, why);
    }
    if tree::has(of, "runAsUserName") {
        let name = tree::text(of, "runAsUserName");
        for why in windows_user(name) {
            causes.invalid_text(path.child("runAsUserName"), name, why);
        }
    }
}

/// `DOMAIN\user`.
fn windows_user(name: &str) -> Vec<String> {
    let (domain, user) = match name.split('\\').collect::<Vec<_>>().as_slice() {
        _ if name.is_empty() => return vec!["runAsUserName cannot be an empty string".into()],
        _ if name.chars().any(|c| c.is_ascii_control()) => {
            return vec!["runAsUserName cannot contain control characters".into()];
        }
        [user] => (None, *user),
        [domain, user] => (Some(*domain), *user),
        _ => return vec!["runAsUserName cannot contain more than one backslash".into()],
    };
    let mut found = Vec::new();
    if let Some(domain) = domain {
        if domain.len() >= MOST_DOMAIN {
            found.push(format!(
                "runAsUserName's Domain length must be under {MOST_DOMAIN} characters"
            ));
        }
        if !is_net_bios(domain) && !is_windows_domain(domain) {
            let why = "runAsUserName's Domain doesn't match the NetBios nor the DNS format";
            found.push(why.into());
        }
    }
    if user.is_empty() {
        found.push("runAsUserName's User cannot be empty".into());
    } else if user.len() > MOST_USER {
        found.push(format!(
            "runAsUserName's User length must not be longer than {MOST_USER} characters"
        ));
    }
    if !user.is_empty() && user.chars().all(|c| c == '.' || c == ' ') {
        found.push("runAsUserName's User cannot contain only periods or spaces".into());
    }
    if user.chars().any(|c| r#""/\:;|=,+*?<>@[]"#.contains(c)) {
        found.push(
            r#"runAsUserName's User cannot contain the following characters: "/\:;|=,+*?<>@[]"#
                .into(),
        );
    }
    found
}

fn is_net_bios(domain: &str) -> bool {
    (1..=15).contains(&domain.chars().count())
        && !domain.starts_with('.')
        && !domain.chars().any(|c| r#"\/:*?"<>|"#.contains(c))
}

fn is_windows_domain(domain: &str) -> bool {
    domain.split('.').all(|label| {
        let bytes = label.as_bytes();
        bytes.len() <= 63
            && bytes.first().is_some_and(u8::is_ascii_alphanumeric)
            && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
            && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
    })
}

/// Containers of all lists with their paths.
fn each_container(spec: &Value, path: Path<'_>, visit: &mut dyn FnMut(&Value, Path<'_>)) {
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        let all = path.child(list);
        for (at, container) in tree::list(spec, list).iter().enumerate() {
            visit(container, all.index(at));
        }
    }
}

/// What an operating system has no notion of.
pub fn of_system(spec: &Value, path: Path<'_>, causes: &mut Causes) {
    if !tree::has(spec, "os") {
        return;
    }
    let here = path.child("os");
    match tree::text(&spec["os"], "name") {
        "" => causes.required(here.child("name"), ""),
        "linux" => {
            let why = "windows options cannot be set for a linux pod";
            let context = path.child("securityContext");
            if tree::has(&spec["securityContext"], "windowsOptions") {
                causes.forbidden(context.child("windowsOptions"), why);
            }
            each_container(spec, path, &mut |container, path| {
                if tree::has(&container["securityContext"], "windowsOptions") {
                    causes.forbidden(path.child("securityContext").child("windowsOptions"), why);
                }
            });
        }
        "windows" => of_windows(spec, path, causes),
        _ => causes.not_supported(here, &spec["os"]["name"], &["linux", "windows"]),
    }
}

fn of_windows(spec: &Value, path: Path<'_>, causes: &mut Causes) {
    let context = path.child("securityContext");
    for key in [
        "appArmorProfile",
        "seLinuxOptions",
        "seccompProfile",
        "fsGroup",
        "fsGroupChangePolicy",
        "sysctls",
        "runAsUser",
        "runAsGroup",
        "supplementalGroups",
        "supplementalGroupsPolicy",
        "seLinuxChangePolicy",
    ] {
        let value = &spec["securityContext"][key];
        if !value.is_null() && (key != "sysctls" || !tree::is_empty(value)) {
            causes.forbidden(context.child(key), NOT_ON_WINDOWS);
        }
    }
    for (key, only_true) in [
        ("hostUsers", false),
        ("hostPID", true),
        ("hostIPC", true),
        ("shareProcessNamespace", false),
    ] {
        if tree::flag(spec, key) || (!only_true && tree::has(spec, key)) {
            causes.forbidden(path.child(key), NOT_ON_WINDOWS);
        }
    }
    each_container(spec, path, &mut |container, path| {
        let here = path.child("securityContext");
        for key in [
            "appArmorProfile",
            "seLinuxOptions",
            "seccompProfile",
            "capabilities",
            "readOnlyRootFilesystem",
            "privileged",
            "allowPrivilegeEscalation",
            "procMount",
            "runAsUser",
            "runAsGroup",
        ] {
            if tree::has(&container["securityContext"], key) {
                causes.forbidden(here.child(key), NOT_ON_WINDOWS);
            }
        }
    });
}

/// Host processes of Windows: all containers or none, and only on the host's network.
pub fn host_process(spec: &Value, path: Path<'_>, causes: &mut Causes) {
    let of = |value: &Value| value["securityContext"]["windowsOptions"]["hostProcess"].as_bool();
    let pod = of(spec);
    let (mut all, mut on_host) = (0, 0);
    each_container(spec, path, &mut |container, path| {
        all += 1;
        let own = of(container);
        if let (Some(pod), Some(own)) = (pod, own)
            && pod != own
        {
            let why =
                format!("pod hostProcess value must be identical if both are specified, was {pod}");
            let here = path.child("securityContext");
            let here = here.child("windowsOptions");
            causes.invalid(here.child("hostProcess"), &Value::Bool(own), why);
        }
        on_host += usize::from(own.or(pod).unwrap_or(false));
    });
    if on_host > 0 {
        if on_host != all {
            let why = "If pod contains any hostProcess containers then all containers must be HostProcess containers";
            causes.invalid_text(path, "", why);
        }
        if !tree::flag(spec, "hostNetwork") {
            let why = "hostNetwork must be true if pod contains any hostProcess containers";
            causes.invalid(path.child("hostNetwork"), &Value::Bool(false), why);
        }
    }
}

/// What a pod in a user namespace of its own can't have.
pub fn host_users(spec: &Value, path: Path<'_>, causes: &mut Causes) {
    if spec["hostUsers"] != false {
        return;
    }
    let why = "when `hostUsers` is false";
    for (key, shown) in
        [("hostNetwork", "hostNetwork"), ("hostPID", "HostPID"), ("hostIPC", "HostIPC")]
    {
        if tree::flag(spec, key) {
            causes.forbidden(path.child(shown), why);
        }
    }
    each_container(spec, path, &mut |container, path| {
        if !tree::list(container, "volumeDevices").is_empty() {
            causes.forbidden(path.child("volumeDevices"), why);
        }
    });
}
