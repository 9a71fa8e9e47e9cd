//! Shows people how a run goes: a live line for each shard on a terminal, plain lines elsewhere.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, MultiProgress, ProgressBar, ProgressStyle};

use crate::api::{CompactionJob, ShardStatus, condition, conditions};

const BETWEEN_LINES: Duration = Duration::from_secs(5);

pub(crate) struct Display {
    began: Instant,
    live: Option<MultiProgress>,
    bars: BTreeMap<i32, ProgressBar>,
    /// Bytes that were done when this run began.
    before: BTreeMap<i32, i64>,
    said: String,
    last_line: Option<Instant>,
    quiet: bool,
}

impl Display {
    /// `quiet`: shows nothing, for output that machines read.
    pub(crate) fn new(quiet: bool) -> Self {
        let live = (!quiet && std::io::stderr().is_terminal()).then(MultiProgress::new);
        Self {
            began: Instant::now(),
            live,
            bars: BTreeMap::new(),
            before: BTreeMap::new(),
            said: String::new(),
            last_line: None,
            quiet,
        }
    }

    pub(crate) fn show(&mut self, job: &CompactionJob) {
        let Some(status) = job.status.as_ref().filter(|_| !self.quiet) else {
            return;
        };
        for shard in &status.shards {
            self.before
                .entry(shard.index)
                .or_insert(shard.checkpoint.bytes_read);
        }
        if let Some(ready) = condition(&status.conditions, conditions::READY) {
            let said = format!("{}: {}", ready.reason, ready.message);
            if said != self.said {
                self.say(&said);
                self.said = said;
            }
        }
        if status.plan.is_none() || status.publish.is_some() {
            self.bars.values().for_each(ProgressBar::finish_and_clear);
            return;
        }
        if self.live.is_some() {
            status.shards.iter().for_each(|shard| self.show_bar(shard));
        } else if self.last_line.is_none_or(|at| at.elapsed() >= BETWEEN_LINES) {
            self.last_line = Some(Instant::now());
            for shard in &status.shards {
                let (rate, left) = self.pace(shard);
                let Some(rate) = rate else { continue };
                eprintln!(
                    "shard {}: batch {}/{}, {}/s{left}",
                    shard.index,
                    shard.checkpoint.batch,
                    shard.total_batches,
                    HumanBytes(rate)
                );
            }
        }
    }

    fn say(&self, text: &str) {
        match &self.live {
            Some(live) => live.println(text).unwrap_or_default(),
            None => eprintln!("{text}"),
        }
    }

    /// Bytes a second in this run, and the time left at that pace, as far as one can tell.
    fn pace(&self, shard: &ShardStatus) -> (Option<u64>, String) {
        let before = self.before.get(&shard.index).copied().unwrap_or_default();
        let seconds = self.began.elapsed().as_secs_f64();
        let rate = (shard.checkpoint.bytes_read - before) as f64 / seconds.max(0.001);
        if rate <= 0.0 {
            return (None, String::new());
        }
        let done = shard.checkpoint.batch.max(1);
        let rest = (shard.total_batches - shard.checkpoint.batch) as f64;
        let left = rest * shard.checkpoint.bytes_read as f64 / done as f64 / rate;
        (Some(rate as u64), format!(", {left:.0} s left"))
    }

    fn show_bar(&mut self, shard: &ShardStatus) {
        let (rate, left) = self.pace(shard);
        let Some(live) = &self.live else { return };
        let bar = self.bars.entry(shard.index).or_insert_with(|| {
            let bar = live.add(ProgressBar::new(0));
            let template = "{prefix} [{bar:30}] {pos}/{len} batches {msg}";
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style.progress_chars("=> "));
            }
            bar.set_prefix(format!("shard {}", shard.index));
            bar
        });
        bar.set_length(shard.total_batches.max(0) as u64);
        bar.set_position(shard.checkpoint.batch.max(0) as u64);
        bar.set_message(rate.map_or_else(String::new, |rate| format!("{}/s{left}", HumanBytes(rate))));
        if shard.is_done() {
            bar.finish();
        }
    }
}
