//! From a job's `spec.storage` to the settings of its store.

use crate::api::{AddressingStyle, CompactionJobSpec};
use crate::store::{Addressing, Settings};

/// The store that a job names; `endpoint`, where given, in place of the one in the spec.
pub fn store_settings(spec: &CompactionJobSpec, endpoint: Option<String>) -> Settings {
    let s3 = &spec.storage.s3;
    let mut settings = Settings::new(&s3.bucket);
    settings.region.clone_from(&s3.region);
    settings.addressing = match s3.addressing_style {
        AddressingStyle::Auto => Addressing::Auto,
        AddressingStyle::Path => Addressing::Path,
        AddressingStyle::Virtual => Addressing::Virtual,
    };
    if endpoint.is_some() {
        settings.addressing = Addressing::Path;
    }
    settings.endpoint = endpoint.or_else(|| s3.endpoint.clone());
    settings
}
