//! Listing objects in the order of their keys, and the encoding that keys travel in.

use aws_sdk_s3::operation::list_objects_v2::ListObjectsV2Output;
use aws_sdk_s3::types::{self, EncodingType, ObjectStorageClass, OptionalObjectAttributes};

use super::S3;
use super::failure::Failure;
use super::read::{etag, length};
use crate::store::{ErrorKind, Object, Page, Result};

/// The most objects in a page, and the most empty pages in a row (a store with many deleted versions
/// may send some).
const PAGE: i32 = 1000;
const EMPTY_PAGES: usize = 100;

impl S3 {
    pub(super) async fn list_page(&self, prefix: &str, after: Option<&str>) -> Result<Page> {
        let call = self.on_bucket("ListObjectsV2");
        let mut token = None;
        for _ in 0..EMPTY_PAGES {
            let attempt = || async {
                let (page, next) = self.list_once(prefix, after, token.clone(), false).await?;
                if page.objects.iter().all(|object| object.readable) {
                    return Ok((page, next));
                }
                // Archived objects may have been restored, which is told only when asked for; a store
                // that does not know the question refuses it.
                match self.list_once(prefix, after, token.clone(), true).await {
                    Err(failure) if failure.kind == ErrorKind::InvalidRequest => Ok((page, next)),
                    outcome => outcome,
                }
            };
            let (page, next) = self.call(call, attempt).await?;
            if !page.objects.is_empty() || next.is_none() {
                return Ok(page);
            }
            token = next;
        }
        Err(self.error(call, Failure::new(ErrorKind::BadAnswer, "only empty pages")))
    }

    /// A page, and the token of the next one.
    async fn list_once(
        &self,
        prefix: &str,
        after: Option<&str>,
        token: Option<String>,
        restored: bool,
    ) -> Result<(Page, Option<String>), Failure> {
        let request = self
            .client
            .list_objects_v2()
            .bucket(&self.bucket)
            .prefix(prefix)
            .set_start_after(after.map(str::to_owned))
            .set_continuation_token(token)
            .set_optional_object_attributes(restored.then(|| vec![OptionalObjectAttributes::RestoreStatus]))
            .encoding_type(EncodingType::Url)
            .max_keys(PAGE);
        page(Box::pin(request.send()).await?, prefix, after)
    }
}

fn page(
    answer: ListObjectsV2Output,
    prefix: &str,
    after: Option<&str>,
) -> Result<(Page, Option<String>), Failure> {
    let encoding = answer.encoding_type;
    let mut objects: Vec<Object> = Vec::new();
    for object in answer.contents.unwrap_or_default() {
        let object = listed(object, encoding.as_ref())?;
        let last = objects.last().map(|last| last.key.as_str()).or(after);
        if !object.key.starts_with(prefix) || last.is_some_and(|last| object.key.as_str() <= last) {
            let detail = format!("{:?} after {:?}", object.key, last.unwrap_or(prefix));
            return Err(Failure::new(ErrorKind::Unordered, detail));
        }
        objects.push(object);
    }
    let more = answer.is_truncated.unwrap_or_default();
    if more && objects.is_empty() && answer.next_continuation_token.is_none() {
        return Err(Failure::new(
            ErrorKind::BadAnswer,
            "more objects are promised after none",
        ));
    }
    Ok((
        Page { objects, more },
        answer.next_continuation_token.filter(|_| more),
    ))
}

fn listed(object: types::Object, encoding: Option<&EncodingType>) -> Result<Object, Failure> {
    let readable = is_readable(&object);
    let modified = object
        .last_modified
        .ok_or_else(|| Failure::new(ErrorKind::BadAnswer, "an object without a time of modification"))?;
    Ok(Object {
        key: decoded(object.key.unwrap_or_default(), encoding)?,
        etag: etag(object.e_tag)?,
        size: length(object.size)?,
        modified: modified.secs(),
        readable,
    })
}

/// As far as a listing tells: the archive tiers of `INTELLIGENT_TIERING` are seen by a read only.
fn is_readable(object: &types::Object) -> bool {
    let archived = matches!(
        object.storage_class,
        Some(ObjectStorageClass::Glacier | ObjectStorageClass::DeepArchive)
    );
    let restored = object
        .restore_status
        .as_ref()
        .is_some_and(|status| status.restore_expiry_date.is_some());
    !archived || restored
}

/// The key behind what was sent, when the store says that it has encoded it.
pub(super) fn decoded(sent: String, encoding: Option<&EncodingType>) -> Result<String, Failure> {
    if encoding != Some(&EncodingType::Url) || !sent.contains(['%', '+']) {
        return Ok(sent);
    }
    let wrong = || {
        Failure::new(
            ErrorKind::BadAnswer,
            format!("the key {sent:?} is not encoded as announced"),
        )
    };
    let mut bytes = Vec::with_capacity(sent.len());
    let mut rest = sent.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        match first {
            b'%' => {
                let (digits, after) = rest.split_at_checked(2).ok_or_else(wrong)?;
                bytes.extend(hex::decode(digits).map_err(|_| wrong())?);
                rest = after;
            }
            b'+' => bytes.push(b' '),
            other => bytes.push(other),
        }
    }
    String::from_utf8(bytes).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use aws_sdk_s3::primitives::DateTime;
    use aws_sdk_s3::types::RestoreStatus;
    use proptest::prelude::*;

    use super::*;

    fn sent(key: &str) -> types::builders::ObjectBuilder {
        types::Object::builder()
            .key(key)
            .e_tag("\"e\"")
            .size(1)
            .last_modified(DateTime::from_secs(7))
    }

    fn answer(keys: &[&str]) -> ListObjectsV2Output {
        let contents = keys.iter().map(|key| sent(key).build()).collect();
        ListObjectsV2Output::builder()
            .set_contents(Some(contents))
            .build()
    }

    #[test]
    fn keys_that_descend_repeat_or_lie_elsewhere_are_unordered() {
        assert!(page(answer(&["p/b", "p/c"]), "p/", Some("p/a")).is_ok());
        for (keys, after) in [
            (vec!["p/b", "p/a"], None),
            (vec!["p/a", "p/a"], None),
            (vec!["q/a"], None),
            (vec!["p/a"], Some("p/a")),
            (vec!["p/a"], Some("p/b")),
        ] {
            let failure = page(answer(&keys), "p/", after).unwrap_err();
            assert_eq!(failure.kind, ErrorKind::Unordered, "{keys:?} after {after:?}");
        }
    }

    #[test]
    fn keys_are_compared_by_their_utf8_bytes() {
        // By UTF-16 units, as some sort them, the second would come first.
        assert!(page(answer(&["\u{ffff}", "\u{10000}"]), "", None).is_ok());
    }

    #[test]
    fn no_object_is_listed_without_size_etag_and_time() {
        for object in [
            types::Object::builder()
                .key("k")
                .size(1)
                .last_modified(DateTime::from_secs(7)),
            types::Object::builder()
                .key("k")
                .e_tag("\"e\"")
                .last_modified(DateTime::from_secs(7)),
            types::Object::builder().key("k").e_tag("\"e\"").size(1),
            sent("k").size(-1),
        ] {
            assert!(listed(object.build(), None).is_err());
        }
        assert_eq!(listed(sent("k").build(), None).unwrap().modified, 7);
    }

    #[test]
    fn archived_objects_are_readable_only_once_restored() {
        let readable = |object: types::builders::ObjectBuilder| is_readable(&object.build());
        assert!(readable(sent("k")));
        assert!(readable(sent("k").storage_class(ObjectStorageClass::GlacierIr)));
        assert!(readable(
            sent("k").storage_class(ObjectStorageClass::IntelligentTiering)
        ));
        for class in [ObjectStorageClass::Glacier, ObjectStorageClass::DeepArchive] {
            let archived = sent("k").storage_class(class);
            assert!(!readable(archived.clone()));
            let restoring = RestoreStatus::builder().is_restore_in_progress(true).build();
            assert!(!readable(archived.clone().restore_status(restoring)));
            let restored = RestoreStatus::builder()
                .is_restore_in_progress(false)
                .restore_expiry_date(DateTime::from_secs(9))
                .build();
            assert!(readable(archived.restore_status(restored)));
        }
    }

    #[test]
    fn keys_are_decoded_only_when_the_store_says_that_it_encoded_them() {
        let url = Some(&EncodingType::Url);
        assert_eq!(decoded("a+b%2Bc%25%01".into(), None).unwrap(), "a+b%2Bc%25%01");
        assert_eq!(
            decoded("a+b%2Bc%25%C3%BC%01".into(), url).unwrap(),
            "a b+c%ü\u{1}"
        );
        for bad in ["%", "%2", "%zz", "%ff"] {
            assert_eq!(
                decoded(bad.into(), url).unwrap_err().kind,
                ErrorKind::BadAnswer,
                "{bad}"
            );
        }
    }

    proptest! {
        #[test]
        fn what_is_encoded_byte_by_byte_decodes_to_itself(key in ".*") {
            let encoded = key.bytes().fold(String::new(), |text, byte| text + &format!("%{byte:02X}"));
            prop_assert_eq!(decoded(encoded, Some(&EncodingType::Url)).unwrap(), key);
        }
    }
}
