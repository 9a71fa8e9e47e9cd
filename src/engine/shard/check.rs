//! Looks whether a source is good before anything of it is merged, where bad ones are to be left out; and says
//! which of those that cannot be read may be.

use bytes::Bytes;

use crate::engine::{Context, Error};
use crate::format::{self, Step};
use crate::plan::{Frozen, Source};
use crate::store::{self, ErrorKind};

/// Bytes of a source as they may be used, or, inside, why the source is left out. `fresh`: nothing of it has been
/// used, and these are its first bytes.
pub(super) async fn admit(
    context: &Context,
    frozen: &Frozen,
    source: &Source,
    bytes: Result<Bytes, store::Error>,
    fresh: bool,
) -> Result<Result<Bytes, String>, Error> {
    let excused = |error| excuse(error, frozen, &source.key, fresh).map(Err);
    let bytes = match bytes {
        Ok(bytes) => bytes,
        Err(error) => return excused(error),
    };
    if !(fresh && frozen.skip_bad) {
        return Ok(Ok(bytes));
    }
    match check(context, frozen, source, bytes.clone()).await {
        Ok(()) => Ok(Ok(bytes)),
        Err(Error::BadSource { problem, .. }) => Ok(Err(problem.to_string())),
        Err(Error::Store(error)) => excused(error),
        Err(error) => Err(error),
    }
}

/// Why a source that cannot be read may be left out. An error where it may not: it is one that the rules do not
/// excuse, or something of the source has been used already.
fn excuse(error: store::Error, frozen: &Frozen, key: &str, fresh: bool) -> Result<String, Error> {
    match error.kind {
        ErrorKind::NotFound if fresh && frozen.skip_missing => Ok("missing".to_owned()),
        ErrorKind::NotFound => Err(Error::Missing(key.to_owned())),
        ErrorKind::PreconditionFailed => Err(Error::Changed(key.to_owned())),
        ErrorKind::Archived if fresh && frozen.skip_bad => Ok("archived".to_owned()),
        ErrorKind::Archived => Err(Error::Archived(key.to_owned())),
        ErrorKind::Denied | ErrorKind::InvalidRequest | ErrorKind::TooLarge => {
            Err(Error::SourceRefused(error))
        }
        _ => Err(error.into()),
    }
}

/// Reads a whole source, of which `first` is the first chunk: an error says what is bad about it.
async fn check(context: &Context, frozen: &Frozen, source: &Source, first: Bytes) -> Result<(), Error> {
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
                Ok(Step::More | Step::Cut) => {}
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
