//! Why the host refused a port, in words that help: the process that has it, and the cure.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

/// What was to be bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sort {
    Tcp,
    Udp,
}

impl Sort {
    /// The kernel's table of such sockets, and `st` of one there that takes what comes.
    fn table(self) -> (&'static str, &'static str) {
        match self {
            Self::Tcp => ("/proc/net/tcp", "0A"),
            Self::Udp => ("/proc/net/udp", "07"),
        }
    }
}

/// One sentence about a failed bind.
pub fn explain(sort: Sort, address: SocketAddr, error: &io::Error) -> String {
    let why = match error.kind() {
        io::ErrorKind::PermissionDenied => format!(
            "ports below {} need root here (sysctl net.ipv4.ip_unprivileged_port_start=0 lifts \
             that), or use a higher port",
            unprivileged_start()
        ),
        io::ErrorKind::AddrInUse => match find(sort, address) {
            Some(holder) => {
                format!("{holder} has it: end it, let it bind one address, or use another port")
            }
            None => "another process has it: end it, or use another port".to_owned(),
        },
        _ => error.to_string(),
    };
    let rest = match sort {
        Sort::Tcp => "; callers inside the cluster still work",
        Sort::Udp => "",
    };
    format!("{address} cannot be opened on the host: {why}{rest}")
}

/// The command line of a process, shortened, such as `process 812 (nginx -g daemon off;)`.
pub fn describe_process(pid: u32) -> String {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words = String::from_utf8_lossy(&line).trim_end_matches('\0').replace('\0', " ");
    match words.char_indices().nth(100) {
        _ if words.is_empty() => format!("process {pid}"),
        Some((cut, _)) => format!("process {pid} ({}...)", &words[..cut]),
        None => format!("process {pid} ({words})"),
    }
}

fn find(sort: Sort, address: SocketAddr) -> Option<String> {
    let (path, state) = sort.table();
    let table = fs::read_to_string(path).ok()?;
    let (bound, inode) = listener(&table, state, address)?;
    let on = format!("on {bound}");
    Some(match process_with(inode) {
        Some(pid) => format!("{} {on}", describe_process(pid)),
        None => format!("a process of another user {on}"),
    })
}

/// (bound address, inode) of the socket that is in the way of `address`.
fn listener(table: &str, taking: &str, address: SocketAddr) -> Option<(SocketAddr, u64)> {
    table.lines().skip(1).find_map(|line| {
        let mut columns = line.split_whitespace();
        let local = columns.nth(1)?;
        let state = columns.nth(1)?;
        let inode = columns.nth(5)?.parse().ok()?;
        let (ip, port) = local.split_once(':')?;
        let ip = Ipv4Addr::from(u32::from_str_radix(ip, 16).ok()?.to_ne_bytes());
        let port = u16::from_str_radix(port, 16).ok()?;
        let in_the_way = ip.is_unspecified() || IpAddr::V4(ip) == address.ip();
        (state == taking && port == address.port() && in_the_way)
            .then(|| ((ip, port).into(), inode))
    })
}

/// The process that has this socket open, among those whose descriptors may be read.
fn process_with(inode: u64) -> Option<u32> {
    let wanted = format!("socket:[{inode}]");
    fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let mut open = fs::read_dir(entry.path().join("fd")).ok()?.flatten();
        open.any(|fd| fs::read_link(fd.path()).is_ok_and(|to| to.as_os_str() == wanted.as_str()))
            .then_some(pid)
    })
}

fn unprivileged_start() -> u16 {
    fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start")
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_who_is_in_the_way() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
             0: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 4711 1 0\n\
             1: 0100007F:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 4712 1 0\n\
             2: 0100407F:0017 0100007F:0017 01 00000000:00000000 00:00000000 00000000 0 0 4713 1 0\n";
        for (address, inode) in [
            ("127.64.0.1:8080", Some(4711)),
            ("127.0.0.1:22", Some(4712)),
            ("127.64.0.1:22", None),
            ("127.64.0.1:23", None),
        ] {
            let found =
                listener(table, "0A", address.parse().expect(address)).map(|(_, inode)| inode);
            assert_eq!(found, inode, "{address}");
        }
    }
}
