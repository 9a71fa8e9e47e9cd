//! The line format against a naive one that decodes everything and splits lines: same records, cuts
//! that no chunking moves, the same bytes again from every cut, and bad sources refused.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod bad;
mod model;
mod selected;
mod sound;
