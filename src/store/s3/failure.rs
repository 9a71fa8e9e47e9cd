//! Every way in which a request can fail, flattened once into an [`ErrorKind`].
//!
//! Decides what went wrong and whether the store can have acted on it; never what to do about it.

use std::error::Error as StdError;
use std::io;

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use rustls::CertificateError;

use crate::deadline::Elapsed;
use crate::store::ErrorKind::{
    self, Archived, BadAnswer, CredentialsInvalid, Denied, InvalidPart, InvalidRequest, NoSuchBucket,
    NoSuchUpload, NotFound, NotS3, PartTooSmall, PreconditionFailed, ServerError, StorageFull, Throttled,
    Timeout, TooLarge, Unreachable, WrongRegion,
};

/// The longest part of a message that is kept.
const MESSAGE: usize = 300;

/// One attempt at a request that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) kind: ErrorKind,
    /// Code, message and request id, or what happened to the connection. No secrets.
    pub(crate) detail: String,
    /// The store certainly did nothing of what the request asked for.
    pub(crate) untouched: bool,
}

impl Failure {
    /// A failure of which nobody knows whether the request took effect.
    pub(crate) fn new(kind: ErrorKind, detail: impl Into<String>) -> Self {
        Self {
            kind,
            detail: detail.into(),
            untouched: false,
        }
    }

    /// The failure of one item of a bulk request that was answered as a whole.
    pub(crate) fn of_code(code: Option<&str>, message: Option<&str>) -> Self {
        let answer = Answer {
            status: 200,
            code,
            message,
            ..Answer::default()
        };
        let kind = answer.kind();
        Self::new(kind, shortened(&answer.detail(kind)))
    }
}

impl From<Elapsed> for Failure {
    fn from(elapsed: Elapsed) -> Self {
        Self::new(Timeout, elapsed.to_string())
    }
}

/// The failure behind an SDK error.
impl<E: ProvideErrorMetadata + StdError + 'static> From<SdkError<E>> for Failure {
    fn from(error: SdkError<E>) -> Self {
        match &error {
            SdkError::ServiceError(service) => answered(service.raw(), service.err()),
            SdkError::ResponseError(response) => unread(response.raw(), &error),
            SdkError::TimeoutError(_) => Self::new(Timeout, chain(&error)),
            SdkError::DispatchFailure(_) => undelivered(&error),
            _ => Self {
                kind: InvalidRequest,
                detail: chain(&error),
                untouched: true,
            },
        }
    }
}

/// The messages of an error and of its causes, each once.
pub(crate) fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let message = error.to_string();
        if !text.contains(&message) {
            text.push_str(": ");
            text.push_str(&message);
        }
        cause = error.source();
    }
    shortened(&text)
}

fn shortened(text: &str) -> String {
    let mut cut = text.char_indices().skip(MESSAGE);
    cut.next()
        .map_or_else(|| text.to_owned(), |(end, _)| format!("{}…", &text[..end]))
}

fn cause<'a, E: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        match error.downcast_ref() {
            Some(found) => return Some(found),
            None => next = error.source(),
        }
    }
    None
}

/// No answer came: the connection could not be made, broke, or carried something that is not HTTP.
fn undelivered(error: &(dyn StdError + 'static)) -> Failure {
    let connecting = cause::<hyper_util::client::legacy::Error>(error)
        .is_some_and(hyper_util::client::legacy::Error::is_connect);
    let garbled = cause::<hyper::Error>(error).is_some_and(hyper::Error::is_parse);
    let kind = if garbled && !connecting {
        NotS3
    } else {
        Unreachable
    };
    let mut detail = chain(error);
    if distrusts(error) {
        detail.push_str(
            "; name the CA that has signed it in spec.storage.s3.caBundleConfigMapRef, or for a command in the file of \
             SSL_CERT_FILE",
        );
    }
    Failure {
        kind,
        detail,
        untouched: connecting,
    }
}

/// Whether the peer has a certificate that none of the known CAs has signed.
fn distrusts(error: &(dyn StdError + 'static)) -> bool {
    let mut inner = cause::<io::Error>(error).and_then(io::Error::get_ref);
    while let Some(error) = inner.and_then(|error| error.downcast_ref::<io::Error>()) {
        inner = error.get_ref();
    }
    matches!(
        inner.and_then(|error| error.downcast_ref()),
        Some(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer))
    )
}

/// The head of an answer came, but its body did not, or could not be read as one.
fn unread(raw: &HttpResponse, error: &(dyn StdError + 'static)) -> Failure {
    let broken = cause::<hyper::Error>(error).is_some() || cause::<io::Error>(error).is_some();
    let kind = if broken { Unreachable } else { NotS3 };
    Failure::new(kind, format!("HTTP {}: {}", raw.status().as_u16(), chain(error)))
}

/// An answer that says no.
fn answered<E: ProvideErrorMetadata>(raw: &HttpResponse, error: &E) -> Failure {
    let header = |name| raw.headers().get(name);
    let body = raw.body().bytes().unwrap_or_default();
    let answer = Answer {
        status: raw.status().as_u16(),
        // The SDK makes up a code for an empty 404.
        code: error.code().filter(|_| !body.is_empty()),
        message: error.message(),
        region: header("x-amz-bucket-region"),
        request: header("x-amz-request-id"),
        empty: body.is_empty(),
    };
    let kind = answer.kind();
    let mut detail = answer.detail(kind);
    if answer.code.is_none() && !body.is_empty() {
        let text = String::from_utf8_lossy(body);
        let words: Vec<_> = text.split_whitespace().collect();
        detail = format!("{detail}: {}", words.join(" "));
    }
    Failure {
        kind,
        detail: shortened(&detail),
        untouched: answer.untouched(kind),
    }
}

/// What an error answer consists of.
#[derive(Debug, Clone, Copy, Default)]
struct Answer<'a> {
    status: u16,
    code: Option<&'a str>,
    message: Option<&'a str>,
    region: Option<&'a str>,
    request: Option<&'a str>,
    empty: bool,
}

impl Answer<'_> {
    fn kind(&self) -> ErrorKind {
        self.code
            .and_then(|code| self.kind_of_code(code))
            .unwrap_or_else(|| self.kind_of_status())
    }

    fn kind_of_code(&self, code: &str) -> Option<ErrorKind> {
        Some(match code {
            "NoSuchKey" | "NotFound" | "NoSuchLifecycleConfiguration" => NotFound,
            "NoSuchBucket" => NoSuchBucket,
            "NoSuchUpload" => NoSuchUpload,
            // A range is only ever asked of a version whose size is known: outside it lies another one.
            "PreconditionFailed" | "InvalidRange" => PreconditionFailed,
            "InvalidPart" | "InvalidPartOrder" => InvalidPart,
            "EntityTooSmall" => PartTooSmall,
            "AccessDenied" | "AllAccessDisabled" | "AccountProblem" | "UnauthorizedAccess" => Denied,
            "ExpiredToken"
            | "InvalidToken"
            | "TokenRefreshRequired"
            | "InvalidAccessKeyId"
            | "SignatureDoesNotMatch"
            | "InvalidSecurity"
            | "AuthFailure"
            | "RequestTimeTooSkewed" => CredentialsInvalid,
            "PermanentRedirect"
            | "TemporaryRedirect"
            | "Redirect"
            | "IllegalLocationConstraintException"
            | "IncorrectEndpoint" => WrongRegion,
            // Also the answer to a key id that cannot be one.
            "AuthorizationHeaderMalformed" => {
                if self.speaks_of_a_region() {
                    WrongRegion
                } else {
                    CredentialsInvalid
                }
            }
            "InvalidObjectState" => Archived,
            "EntityTooLarge" | "MaxMessageLengthExceeded" => TooLarge,
            "RequestTimeout" => Timeout,
            "InternalError" | "OperationAborted" | "ConditionalRequestConflict" => ServerError,
            "XMinioStorageFull"
            | "InsufficientStorage"
            | "QuotaExceeded"
            | "XMinioAdminBucketQuotaExceeded" => StorageFull,
            // What arrived is not what was sent.
            "BadDigest" | "XAmzContentSHA256Mismatch" | "XAmzContentChecksumMismatch" | "IncompleteBody" => {
                BadAnswer
            }
            _ if is_throttling(code) || code == "ServiceUnavailable" => Throttled,
            _ if code.starts_with("KMS.") => Denied,
            _ => return None,
        })
    }

    fn speaks_of_a_region(&self) -> bool {
        self.region.is_some() || self.message.is_some_and(|message| message.contains("region"))
    }

    fn kind_of_status(&self) -> ErrorKind {
        match self.status {
            301 | 307 | 308 if self.region.is_some() => WrongRegion,
            // A HEAD is refused without a body, and keys that have expired get a 400.
            400 if self.empty => CredentialsInvalid,
            401 | 403 => Denied,
            408 => Timeout,
            412 | 416 => PreconditionFailed,
            413 => TooLarge,
            429 | 503 => Throttled,
            507 => StorageFull,
            409 | 500 | 502..=599 => ServerError,
            400..=499 | 501 if self.code.is_some() => InvalidRequest,
            200..=299 if self.code.is_some() => ServerError,
            _ => NotS3,
        }
    }

    /// Only what can be sure is: an explicit refusal, before the work began.
    fn untouched(&self, kind: ErrorKind) -> bool {
        let Some(code) = self.code else { return false };
        match self.status {
            // An error after the head of a success: the work had begun.
            200..=299 => {
                matches!(
                    kind,
                    InvalidPart | PartTooSmall | PreconditionFailed | InvalidRequest | Denied
                )
            }
            404 => kind == NoSuchBucket,
            408 => false,
            301 | 307 | 308 | 400..=499 | 501 => true,
            503 => is_throttling(code),
            _ => false,
        }
    }

    fn detail(&self, kind: ErrorKind) -> String {
        let mut detail = match (self.code, self.message) {
            (Some(code), Some(message)) => format!("{code}: {message}"),
            (Some(code), None) => code.to_owned(),
            (None, _) => format!("HTTP {}", self.status),
        };
        if let (WrongRegion, Some(region)) = (kind, self.region) {
            detail.push_str(", the bucket is in ");
            detail.push_str(region);
        }
        if let Some(request) = self.request {
            detail.push_str(", request ");
            detail.push_str(request);
        }
        detail
    }
}

/// Codes with which a store turns a request away because it has too many.
fn is_throttling(code: &str) -> bool {
    matches!(
        code,
        "SlowDown"
            | "SlowDownRead"
            | "SlowDownWrite"
            | "Throttling"
            | "ThrottlingException"
            | "ThrottledException"
            | "RequestThrottled"
            | "RequestThrottledException"
            | "RequestLimitExceeded"
            | "BandwidthLimitExceeded"
            | "TooManyRequests"
            | "TooManyRequestsException"
            | "TooManyRequestsExceeded"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn coded(status: u16, code: &str) -> Answer<'_> {
        Answer {
            status,
            code: Some(code),
            ..Answer::default()
        }
    }

    fn bare(status: u16, empty: bool) -> Answer<'static> {
        Answer {
            status,
            empty,
            ..Answer::default()
        }
    }

    #[test]
    fn every_known_code_has_its_kind() {
        for (status, code, kind) in [
            (404, "NoSuchKey", NotFound),
            (404, "NoSuchBucket", NoSuchBucket),
            (404, "NoSuchUpload", NoSuchUpload),
            (412, "PreconditionFailed", PreconditionFailed),
            (416, "InvalidRange", PreconditionFailed),
            (400, "InvalidPart", InvalidPart),
            (400, "InvalidPartOrder", InvalidPart),
            (400, "EntityTooSmall", PartTooSmall),
            (400, "EntityTooLarge", TooLarge),
            (400, "InvalidArgument", InvalidRequest),
            (501, "NotImplemented", InvalidRequest),
            (403, "AccessDenied", Denied),
            (400, "KMS.DisabledException", Denied),
            (400, "ExpiredToken", CredentialsInvalid),
            (403, "InvalidAccessKeyId", CredentialsInvalid),
            (403, "SignatureDoesNotMatch", CredentialsInvalid),
            (403, "RequestTimeTooSkewed", CredentialsInvalid),
            (301, "PermanentRedirect", WrongRegion),
            (400, "IllegalLocationConstraintException", WrongRegion),
            (403, "InvalidObjectState", Archived),
            (503, "SlowDown", Throttled),
            (503, "ServiceUnavailable", Throttled),
            (429, "TooManyRequests", Throttled),
            (400, "RequestTimeout", Timeout),
            (500, "InternalError", ServerError),
            (200, "InternalError", ServerError),
            (200, "SomethingNew", ServerError),
            (409, "ConditionalRequestConflict", ServerError),
            (503, "XMinioServerNotInitialized", Throttled),
            (507, "XMinioStorageFull", StorageFull),
            (400, "BadDigest", BadAnswer),
            (400, "SomethingNew", InvalidRequest),
            (409, "SomethingNew", ServerError),
            (500, "SomethingNew", ServerError),
        ] {
            assert_eq!(coded(status, code).kind(), kind, "{status} {code}");
        }
    }

    #[test]
    fn a_malformed_authorization_means_the_region_only_when_it_says_so() {
        let mut answer = coded(400, "AuthorizationHeaderMalformed");
        assert_eq!(answer.kind(), CredentialsInvalid);
        answer.message = Some("the region 'us-east-1' is wrong; expecting 'eu-west-1'");
        assert_eq!(answer.kind(), WrongRegion);
    }

    #[test]
    fn an_answer_without_a_code_is_judged_by_its_status() {
        for (status, empty, kind) in [
            (400, true, CredentialsInvalid),
            (400, false, NotS3),
            (403, true, Denied),
            (404, true, NotS3),
            (404, false, NotS3),
            (405, false, NotS3),
            (301, false, NotS3),
            (412, true, PreconditionFailed),
            (429, true, Throttled),
            (500, true, ServerError),
            (502, false, ServerError),
            (503, true, Throttled),
            (507, true, StorageFull),
            (200, false, NotS3),
        ] {
            assert_eq!(bare(status, empty).kind(), kind, "{status} empty: {empty}");
        }
    }

    #[test]
    fn a_bucket_region_in_a_refused_head_means_the_wrong_region_and_is_told() {
        let answer = Answer {
            region: Some("eu-west-1"),
            ..bare(301, true)
        };
        assert_eq!(answer.kind(), WrongRegion);
        assert!(answer.detail(WrongRegion).contains("eu-west-1"));
        assert_eq!(
            Answer {
                status: 403,
                ..answer
            }
            .kind(),
            Denied
        );
    }

    #[test]
    fn only_an_explicit_refusal_leaves_the_store_surely_untouched() {
        for (status, code, untouched) in [
            (400, "InvalidPart", true),
            (400, "EntityTooSmall", true),
            (400, "InvalidRequest", true),
            (403, "AccessDenied", true),
            (409, "ConditionalRequestConflict", true),
            (412, "PreconditionFailed", true),
            (501, "NotImplemented", true),
            (503, "SlowDown", true),
            (404, "NoSuchBucket", true),
            (200, "InvalidPart", true),
            (404, "NoSuchUpload", false),
            (404, "NoSuchKey", false),
            (408, "RequestTimeout", false),
            (500, "InternalError", false),
            (503, "ServiceUnavailable", false),
            (507, "XMinioStorageFull", false),
            (200, "InternalError", false),
            (200, "SlowDown", false),
            (200, "SomethingNew", false),
        ] {
            let answer = coded(status, code);
            assert_eq!(answer.untouched(answer.kind()), untouched, "{status} {code}");
        }
        for status in [200, 400, 403, 404, 412, 500, 503] {
            let answer = bare(status, false);
            assert!(!answer.untouched(answer.kind()), "{status} without a code");
        }
    }

    #[test]
    fn the_detail_has_code_message_and_request_id() {
        let answer = Answer {
            message: Some("Please reduce"),
            request: Some("4442587FB7D0A2F9"),
            ..coded(503, "SlowDown")
        };
        assert_eq!(
            answer.detail(Throttled),
            "SlowDown: Please reduce, request 4442587FB7D0A2F9"
        );
    }

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let text = shortened(&"ü".repeat(1000));
        assert_eq!(text.chars().count(), MESSAGE + 1);
    }
}
