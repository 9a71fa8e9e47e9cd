//! Sources whose bytes a seed determines.

use std::io::Write as _;

pub struct Content(fastrand::Rng);

impl Content {
    pub fn new(seed: u64) -> Self {
        Self(fastrand::Rng::with_seed(seed))
    }

    /// At least so many bytes of lines that compress to about half.
    pub fn lines(&mut self, bytes: usize) -> Vec<u8> {
        let mut lines = Vec::with_capacity(bytes + 256);
        while lines.len() < bytes {
            for _ in 0..self.0.usize(1..12) {
                write!(lines, "{:016x}", self.0.u64(..)).unwrap();
            }
            lines.push(b'\n');
        }
        lines
    }
}

pub fn gzip(raw: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(raw).unwrap();
    encoder.finish().unwrap()
}
