//! The line format against a naive one that decodes everything and splits lines: same records, cuts
//! that no chunking moves, the same bytes again from every cut, and bad sources refused.

mod bad;
mod model;
mod sound;
