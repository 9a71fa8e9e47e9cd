//! Looks whether a source is good before anything of it is merged, where bad ones are to be left out.

use bytes::Bytes;

use crate::engine::{Context, Error};
use crate::format::{self, Step};
use crate::plan::{Frozen, Source};

/// Reads a whole source, of which `first` is the first chunk: an error says what is bad about it.
pub(super) async fn check(
    context: &Context,
    frozen: &Frozen,
    source: &Source,
    first: Bytes,
) -> Result<(), Error> {
    let settings = format::Settings {
        compression: format::Compression::Auto,
        ..frozen.format.clone()
    };
    let mut merge = format::merge(&settings, None);
    merge.begin(None);
    let mut out = Vec::new();
    let mut read = first.len() as u64;
    let mut chunk = Some(first);
    loop {
        match chunk.take() {
            Some(bytes) => merge.feed(bytes),
            None => merge.end_source(),
        }
        loop {
            out.clear();
            match merge.advance(&mut out) {
                Ok(Step::Cut) => {}
                Ok(Step::NeedInput) => break,
                Ok(Step::SourceEnd { .. }) => return Ok(()),
                Err(problem) => {
                    return Err(Error::BadSource {
                        key: source.key.clone(),
                        problem,
                    });
                }
            }
        }
        if read < source.size {
            let to = source.size.min(read + context.window.read_bytes);
            chunk = Some(context.store.read(&source.key, read..to, &source.etag).await?);
            read = to;
        }
    }
}
