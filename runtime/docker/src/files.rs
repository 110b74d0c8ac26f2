//! The files that every container of a pod sees in `/etc`: names of hosts and of nameservers, as the
//! kubelet writes them.

use std::{fs, io, path::PathBuf};

use windlass_runtime_api::{Mount, Sandbox};

use crate::create::own_file;

const LOCAL: &str = "# Kubernetes-managed hosts file.
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::0\tip6-localnet
fe00::0\tip6-mcastprefix
fe00::1\tip6-allnodes
fe00::2\tip6-allrouters
";
const ALIASES: &str = "\n# Entries added by HostAliases.\n";

/// Where the files of pods are, each pod's in a folder of its own.
pub struct Files {
    pub dir: PathBuf,
}

impl Files {
    /// Writes the pod's files and says where a container sees them. One that isn't joined with the
    /// pod's network can't ask the cluster's DNS.
    pub fn make(&self, pod: &Sandbox, joined: bool) -> io::Result<Vec<Mount>> {
        let folder = self.dir.join(&pod.uid);
        fs::create_dir_all(&folder)?;
        let mut mounts = Vec::new();
        let mut put = |name: &str, text: String| -> io::Result<()> {
            let path = folder.join(name);
            // Written in place, because running containers have the file itself.
            if fs::read_to_string(&path).ok().as_ref() != Some(&text) {
                fs::write(&path, text)?;
            }
            mounts.push(own_file(&path, &format!("/etc/{name}")));
            Ok(())
        };
        // The host's own, where its network is the pod's.
        match pod.linux.host_network {
            true => put("hosts", fs::read_to_string("/etc/hosts")? + &aliases(pod))?,
            false => put("hosts", hosts(pod))?,
        }
        let linux = &pod.linux;
        let resolv = if joined { &linux.resolv_conf } else { &linux.host_resolv_conf };
        put("resolv.conf", resolv.clone())?;
        Ok(mounts)
    }

    pub fn remove(&self, pod_uid: &str) {
        let folder = self.dir.join(pod_uid);
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(path = %folder.display(), %error, "files of a pod stay");
            }
            _ => {}
        }
    }
}

/// `/etc/hosts` of a pod with an address of its own.
fn hosts(pod: &Sandbox) -> String {
    let own = pod.names.hosts.iter().filter(|(_, address)| *address == pod.address);
    let own: Vec<&str> = own.map(|(name, _)| name.as_str()).collect();
    let mut text = LOCAL.to_owned();
    if !own.is_empty() {
        text += &format!("{}\t{}\n", pod.address, own.join("\t"));
    }
    text + &aliases(pod)
}

fn aliases(pod: &Sandbox) -> String {
    let mut text = String::new();
    for (name, address) in pod.names.hosts.iter().filter(|(_, at)| *at != pod.address) {
        if text.is_empty() {
            text += ALIASES;
        }
        text += &format!("{address}\t{name}\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use expect_test::expect;
    use windlass_runtime_api::{LinuxSandbox, PodNames};

    use super::*;

    #[test]
    fn files_of_a_pod() {
        let own = [127, 64, 0, 1].into();
        let hosts = vec![("h".into(), own), ("db".into(), [10, 0, 0, 1].into())];
        let pod = Sandbox {
            uid: "u".into(),
            name: "p".into(),
            namespace: "n".into(),
            address: own,
            hostname: "h".into(),
            names: Arc::new(PodNames { hosts, ..PodNames::default() }),
            annotations: Default::default(),
            linux: LinuxSandbox {
                resolv_conf: "nameserver 127.96.0.10\n".into(),
                host_resolv_conf: "nameserver 9.9.9.9\n".into(),
                ..LinuxSandbox::default()
            },
        };
        let folder = tempfile::tempdir().expect("folder");
        let files = Files { dir: folder.path().to_owned() };
        let mounts = files.make(&pod, true).expect("written");
        let text = |at: usize| fs::read_to_string(&mounts[at].host_path).expect("text");
        assert_eq!(mounts[0].container_path, "/etc/hosts");
        expect![[r#"
            # Kubernetes-managed hosts file.
            127.0.0.1	localhost
            ::1	localhost ip6-localhost ip6-loopback
            fe00::0	ip6-localnet
            fe00::0	ip6-mcastprefix
            fe00::1	ip6-allnodes
            fe00::2	ip6-allrouters
            127.64.0.1	h

            # Entries added by HostAliases.
            10.0.0.1	db
        "#]]
        .assert_eq(&text(0));
        assert_eq!(text(1), "nameserver 127.96.0.10\n");
        files.make(&pod, false).expect("written");
        assert_eq!(text(1), "nameserver 9.9.9.9\n");
        files.remove("u");
        assert!(!folder.path().join("u").exists());
    }
}
