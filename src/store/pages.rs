//! A listing from its first page to its last.
//!
//! Asks one page at a time and keeps none. It always ends: pages ascend, which [`Store::list`] guarantees, and an
//! empty one is the last.

use super::{Object, Result, Store};

/// Where a listing has got to.
pub struct Pages {
    prefix: String,
    after: Option<String>,
    more: bool,
}

impl Pages {
    /// All keys that begin with `prefix`, in ascending order.
    pub fn of(prefix: impl Into<String>) -> Self {
        Self {
            prefix: prefix.into(),
            after: None,
            more: true,
        }
    }

    /// The next page; `None` after the last one. After an error the same page is asked for again.
    pub async fn next(&mut self, store: &dyn Store) -> Result<Option<Vec<Object>>> {
        if !self.more {
            return Ok(None);
        }
        let page = store.list(&self.prefix, self.after.as_deref()).await?;
        self.more = page.more && !page.objects.is_empty();
        if let Some(last) = page.objects.last() {
            self.after = Some(last.key.clone());
        }
        Ok(Some(page.objects))
    }
}
