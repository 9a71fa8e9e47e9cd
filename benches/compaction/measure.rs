//! What a process takes: time, CPU, memory.

use std::process::Command;
use std::time::{Duration, Instant};

/// What a finished process took. CPU: with all that it waited for.
#[derive(Clone, Copy)]
pub struct Cost {
    pub wall: f64,
    pub cpu: f64,
    pub peak_bytes: u64,
}

pub fn measure(mut command: Command) -> Cost {
    let before = children_cpu();
    let began = Instant::now();
    let mut child = command.spawn().unwrap();
    let mut peak_bytes = 0;
    let status = loop {
        peak_bytes = peak_bytes.max(peak_of_tree(child.id()));
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let wall = began.elapsed().as_secs_f64();
    assert!(status.success(), "{command:?}: {status}");
    Cost {
        wall,
        cpu: children_cpu() - before,
        peak_bytes,
    }
}

/// Seconds of user and system time of all children that were waited for: fields 16 and 17 of
/// `/proc/self/stat`, in ticks of 10 ms.
fn children_cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks = |field: usize| fields[field - 3].parse::<f64>().unwrap();
    (ticks(16) + ticks(17)) / 100.0
}

/// The largest peak of a process or one of its children.
fn peak_of_tree(pid: u32) -> u64 {
    let peak = |pid: u32| -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok())
            .unwrap_or(0)
            << 10
    };
    let mut children = String::new();
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten()
    {
        children += &std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
    }
    children
        .split_whitespace()
        .map(|child| peak(child.parse().unwrap()))
        .max()
        .unwrap_or(0)
        .max(peak(pid))
}

pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
