//! What the whole machine uses, read from Linux (proc(5)). A machine that doesn't tell uses nothing.

use std::fs;

use windlass_sdk_meta::Timestamp;

/// Linux tells times of the CPU in hundredths of a second on every architecture it runs on.
const NANOS_A_TICK: u64 = 10_000_000;

/// Use of a machine since it was booted; memory is now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Machine {
    pub cpu_nanos: u64,
    pub total_bytes: u64,
    /// Held by nothing at all.
    pub free_bytes: u64,
    /// What programs can have without swapping: free, or held by caches that can go.
    pub available_bytes: u64,
    /// Of programs, not of files.
    pub anonymous_bytes: u64,
    pub booted_at: Option<Timestamp>,
}

impl Machine {
    pub fn of_this() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        Self::parse(&read("/proc/stat"), &read("/proc/meminfo"))
    }

    fn parse(stat: &str, meminfo: &str) -> Self {
        let line = |name: &str| {
            let words = stat.lines().map(|line| line.split_whitespace());
            words.into_iter().find_map(|mut words| (words.next()? == name).then_some(words))
        };
        let ticks: Vec<u64> =
            line("cpu").into_iter().flatten().filter_map(|word| word.parse().ok()).collect();
        // user, nice, system, (idle, iowait,) irq, softirq, steal; guests are part of user.
        let busy = [0, 1, 2, 5, 6, 7].iter().filter_map(|at| ticks.get(*at)).sum::<u64>();
        let booted = line("btime").and_then(|mut words| words.next()?.parse().ok());
        let bytes = |name: &str| {
            let found = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            let kib = found.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
            kib.unwrap_or_default() << 10
        };
        Self {
            cpu_nanos: busy * NANOS_A_TICK,
            total_bytes: bytes("MemTotal"),
            free_bytes: bytes("MemFree"),
            available_bytes: bytes("MemAvailable"),
            anonymous_bytes: bytes("AnonPages"),
            booted_at: booted.and_then(|seconds| Timestamp::from_second(seconds).ok()),
        }
    }

    /// In use and not to be had back by dropping caches.
    pub fn working_set_bytes(&self) -> u64 {
        self.total_bytes.saturating_sub(self.available_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linux_tells() {
        let stat = "cpu  100 20 30 4000 50 6 7 8 9 1\ncpu0 1 1 1 1\nintr 5\nbtime 1795428000\n";
        let meminfo =
            "MemTotal:  1024 kB\nMemFree:  100 kB\nMemAvailable: 600 kB\nAnonPages:  1 kB\n";
        let machine = Machine::parse(stat, meminfo);
        assert_eq!(machine.cpu_nanos, (100 + 20 + 30 + 6 + 7 + 8) * NANOS_A_TICK);
        assert_eq!(machine.working_set_bytes(), 424 << 10);
        assert_eq!((machine.free_bytes, machine.anonymous_bytes), (100 << 10, 1 << 10));
        assert_eq!(machine.booted_at, Timestamp::from_second(1_795_428_000).ok());
        assert_eq!(Machine::parse("", "nonsense"), Machine::default());
    }
}
