//! Storing objects in one request, and the attributes that every stored object may have.

use std::collections::HashMap;

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ServerSideEncryption, StorageClass};
use bytes::Bytes;

use super::read::etag;
use super::retry::Call;
use super::{S3, TOKEN};
use crate::store::{ErrorKind, Put, Result};

/// [`Put`] in the SDK's types, for the two requests that can carry it.
#[derive(Debug, Default)]
pub(super) struct Sent {
    pub(super) metadata: Option<HashMap<String, String>>,
    pub(super) encryption: Option<ServerSideEncryption>,
    pub(super) kms_key: Option<String>,
    pub(super) storage_class: Option<StorageClass>,
    pub(super) content_type: Option<String>,
    pub(super) tagging: Option<String>,
}

impl From<Put<'_>> for Sent {
    fn from(put: Put<'_>) -> Self {
        let metadata = put
            .token
            .map(|token| HashMap::from([(TOKEN.to_owned(), token.to_owned())]));
        let Some(attributes) = put.attributes else {
            return Self {
                metadata,
                ..Self::default()
            };
        };
        let tags: Vec<_> = attributes
            .tags
            .iter()
            .map(|(name, value)| format!("{}={}", encoded(name), encoded(value)))
            .collect();
        Self {
            metadata,
            encryption: attributes.server_side_encryption.as_deref().map(Into::into),
            kms_key: attributes.kms_key_id.clone(),
            storage_class: attributes.storage_class.as_deref().map(Into::into),
            content_type: attributes.content_type.clone(),
            tagging: (!tags.is_empty()).then(|| tags.join("&")),
        }
    }
}

/// Percent-encoded for a query string.
fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push_str(&hex::encode_upper([byte]));
        }
    }
    out
}

impl S3 {
    pub(super) async fn put_object(&self, key: &str, body: Bytes, options: Put<'_>) -> Result<String> {
        let call = Call {
            limit: self.transfer(body.len()),
            ..self.on("PutObject", key)
        };
        let attempt = || async {
            let sent = Sent::from(options);
            let create_only = options.create_only && self.capabilities.create_only;
            let request = self
                .client
                .put_object()
                .bucket(&self.bucket)
                .key(key)
                .body(ByteStream::from(body.clone()))
                .set_if_none_match(create_only.then(|| "*".to_owned()))
                .set_metadata(sent.metadata)
                .set_server_side_encryption(sent.encryption)
                .set_ssekms_key_id(sent.kms_key)
                .set_storage_class(sent.storage_class)
                .set_content_type(sent.content_type)
                .set_tagging(sent.tagging);
            etag(Box::pin(request.send()).await?.e_tag)
        };
        match (self.call(call, attempt).await, options.token) {
            (Err(error), Some(token)) if error.kind == ErrorKind::PreconditionFailed => {
                // An earlier attempt whose answer was lost may be what exists.
                match self.head_object(key).await? {
                    Some(head) if head.token.as_deref() == Some(token) && head.size == body.len() as u64 => {
                        Ok(head.etag)
                    }
                    _ => Err(error),
                }
            }
            (outcome, _) => outcome,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Attributes;

    #[test]
    fn tags_are_encoded_as_a_query() {
        let tags = [("team", "a&b=c d"), ("ü", "1/2")];
        let attributes = Attributes {
            tags: tags
                .into_iter()
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
                .collect(),
            ..Attributes::default()
        };
        let sent = Sent::from(Put {
            attributes: Some(&attributes),
            ..Put::default()
        });
        assert_eq!(sent.tagging.as_deref(), Some("team=a%26b%3Dc%20d&%C3%BC=1%2F2"));
    }

    #[test]
    fn attributes_that_nobody_set_are_not_sent() {
        let attributes = Attributes::default();
        let sent = Sent::from(Put {
            attributes: Some(&attributes),
            token: Some("t"),
            create_only: false,
        });
        assert!(sent.encryption.is_none() && sent.kms_key.is_none() && sent.storage_class.is_none());
        assert!(sent.content_type.is_none() && sent.tagging.is_none());
        assert_eq!(sent.metadata.unwrap()[TOKEN], "t");
    }
}
