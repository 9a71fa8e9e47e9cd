//! The window of a worker from its container's memory limit (I5): a small container gets a small window
//! instead of being killed for memory.

use std::path::Path;

use crate::engine::Window;

/// Where the kernel tells a container its own limit: cgroup v2, then v1.
const LIMIT_FILES: [&str; 2] = [
    "/sys/fs/cgroup/memory.max",
    "/sys/fs/cgroup/memory/memory.limit_in_bytes",
];

/// What a worker takes beside its window: the program, connections, buffers of TLS.
const OVERHEAD: u64 = 64 << 20;

/// Three quarters of what is left become the window; the rest is for what an allocator keeps.
const SHARE: (u64, u64) = (3, 4);

/// A larger window gains nothing.
const MOST: u64 = 256 << 20;

/// cgroup v1 says "no limit" by the largest number of pages.
const UNLIMITED: u64 = 1 << 60;

/// The container's memory limit, if it has one.
pub(super) fn limit() -> Option<u64> {
    limit_of(LIMIT_FILES.map(Path::new))
}

/// The first of these files that exists decides.
fn limit_of<'a>(files: impl IntoIterator<Item = &'a Path>) -> Option<u64> {
    let text = files
        .into_iter()
        .find_map(|file| std::fs::read_to_string(file).ok())?;
    parse(&text)
}

fn parse(text: &str) -> Option<u64> {
    let limit = text.trim().parse().ok();
    limit.filter(|limit| *limit < UNLIMITED)
}

/// The window that fits into `limit` and holds at least `least`, or the limit that would be needed.
pub(super) fn window(limit: Option<u64>, least: u64) -> Result<u64, u64> {
    let (share, of) = SHARE;
    let Some(limit) = limit else {
        return Ok(Window::DEFAULT_BYTES.max(least));
    };
    let affordable = limit.saturating_sub(OVERHEAD) / of * share;
    if affordable < least {
        return Err(OVERHEAD + least.div_ceil(share) * of);
    }
    Ok(affordable.min(MOST.max(least)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MI: u64 = 1 << 20;
    /// For parts of 8 MiB.
    const LEAST: u64 = Window::least(8 * MI, Window::READ_BYTES);

    #[test]
    fn both_kinds_of_cgroup_are_understood() {
        assert_eq!(parse("268435456\n"), Some(256 * MI));
        assert_eq!(parse("max\n"), None);
        assert_eq!(parse("9223372036854771712\n"), None);
        assert_eq!(parse("18446744073709551615"), None);
        assert_eq!(parse(""), None);
    }

    #[test]
    fn the_first_file_that_exists_decides() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = directory.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let (v1, unlimited) = (file("v1", "1048576\n"), file("v2", "max\n"));
        let missing = directory.path().join("missing");
        assert_eq!(limit_of([missing.as_path(), v1.as_path()]), Some(MI));
        assert_eq!(limit_of([unlimited.as_path(), v1.as_path()]), None);
        assert_eq!(limit_of([missing.as_path()]), None);
    }

    #[test]
    fn without_a_limit_the_window_is_the_default_or_what_the_parts_need() {
        assert_eq!(window(None, LEAST), Ok(Window::DEFAULT_BYTES));
        assert_eq!(window(None, 500 * MI), Ok(500 * MI));
    }

    #[test]
    fn a_window_leaves_room_for_everything_else_and_has_a_largest_size() {
        assert_eq!(window(Some(256 * MI), LEAST), Ok(144 * MI));
        assert_eq!(window(Some(128 * MI), LEAST), Ok(48 * MI));
        assert_eq!(window(Some(8 << 30), LEAST), Ok(MOST));
        assert_eq!(window(Some(8 << 30), 300 * MI), Ok(300 * MI));
    }

    #[test]
    fn a_limit_that_is_too_small_is_refused_with_the_one_that_is_enough() {
        for limit in [0, MI, 64 * MI, 117 * MI] {
            let needed = window(Some(limit), LEAST).unwrap_err();
            assert!(window(Some(needed), LEAST).is_ok(), "{needed}");
            assert!(window(Some(needed - 4), LEAST).is_err(), "{needed}");
        }
    }
}
