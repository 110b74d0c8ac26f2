//! The figures: a table for people while it runs, one JSON object a line for programs.

use std::{fs::File, io::Write, path::PathBuf};

use serde_json::json;

/// Where figures go.
pub struct Report {
    json: Option<File>,
}

/// One measured number, and the peer's where one ran beside it.
pub struct Figure<'a> {
    pub bench: &'a str,
    pub metric: &'a str,
    pub value: f64,
    pub unit: &'a str,
    /// Name and value of the peer.
    pub peer: Option<(&'a str, f64)>,
    /// Who observes, what is included, sizes, concurrency.
    pub how: &'a str,
}

impl Report {
    pub fn new(json: Option<PathBuf>) -> anyhow::Result<Self> {
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let kib = memory.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok());
        println!("machine: {cores} cores, {} GiB of memory", kib.unwrap_or_default() >> 20);
        Ok(Self { json: json.map(File::create).transpose()? })
    }

    pub fn add(&mut self, figure: &Figure) -> anyhow::Result<()> {
        let Figure { bench, metric, value, unit, peer, how } = figure;
        let beside = peer.map_or(String::new(), |(name, other)| {
            format!("  ({name}: {other:.1}; ratio {:.2})", value / other)
        });
        println!("{bench:8} {metric:40} {value:>10.1} {unit}{beside}\n         {how}");
        if let Some(file) = &mut self.json {
            let mut line = json!({"bench": bench, "metric": metric, "value": value, "unit": unit});
            if let Some((name, other)) = peer {
                line["peer"] = json!(name);
                line["peer_value"] = json!(other);
                line["ratio"] = json!(value / other);
            }
            writeln!(file, "{line}")?;
        }
        Ok(())
    }
}

/// The value below which `percent` of the samples lie; 0 where there are none.
pub fn percentile(samples: &mut [f64], percent: usize) -> f64 {
    samples.sort_by(f64::total_cmp);
    let at = (samples.len() * percent / 100).min(samples.len().saturating_sub(1));
    samples.get(at).copied().unwrap_or_default()
}
