//! Standard output, line by line. A reader that went away, such as `head`, is an error of its own and no panic.

use std::io::{self, Write as _};

use super::Error;

pub(super) fn say(line: &str) -> Result<(), Error> {
    say_bytes(line.as_bytes())
}

/// What is not ours to understand, such as a log, is passed on as it is.
pub(super) fn say_bytes(line: &[u8]) -> Result<(), Error> {
    let mut out = io::stdout().lock();
    let written = out.write_all(line).and_then(|()| out.write_all(b"\n"));
    written.and_then(|()| out.flush()).map_err(Error::Output)
}
