//! How to reach one bucket: the settings, and the SDK client made of them.
//!
//! The client does one thing a request: it sends it once. Retries, deadlines and concurrency are ours
//! (`s3::retry`, [`crate::deadline`], `s3::limit`), so they are switched off here, and nothing is taken
//! from the environment but credentials and, on AWS, the region.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aws_config::default_provider::credentials::DefaultCredentialsChain;
use aws_config::environment::region::EnvironmentVariableRegionProvider;
use aws_config::imds::region::ImdsRegionProvider;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::region::ProfileFileRegionProvider;
use aws_config::provider_config::ProviderConfig;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    BehaviorVersion, Credentials, IdentityCache, Region, RequestChecksumCalculation,
    ResponseChecksumValidation, SharedCredentialsProvider, SharedHttpClient, StalledStreamProtectionConfig,
    retry::RetryConfig,
};
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore, rustls_provider::CryptoMode};
use aws_smithy_runtime_api::client::http::{HttpClient, HttpConnectorSettings, SharedHttpConnector};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use rustls::pki_types::{CertificateDer, pem::PemObject};

use super::credentials::{Keys, Signer, Source};
use crate::deadline::{Deadlines, within};

/// The region of a store that has none of its own.
const DEFAULT_REGION: &str = "us-east-1";

/// Below the limit for a first byte, so that a second attempt never meets a connection that died
/// while it was idle.
const IDLE_CONNECTION: Duration = Duration::from_secs(8);

/// Everything about a bucket that a user can set, and the limits that a test may shorten.
#[derive(Debug, Clone)]
pub struct Settings {
    pub bucket: String,
    /// Asked of the environment when there is neither a region nor an endpoint.
    pub region: Option<String>,
    /// `http://…` or `https://…`; `None` is AWS.
    pub endpoint: Option<String>,
    pub addressing: Addressing,
    pub credentials: CredentialsFrom,
    /// PEM certificates to trust besides those of the system.
    pub ca_bundle: Option<PathBuf>,
    /// The most requests in flight at one time.
    pub concurrency: usize,
    pub deadlines: Deadlines,
    pub retries: Retries,
}

/// Where the keys are found.
#[derive(Debug, Clone, Default)]
pub enum CredentialsFrom {
    /// Environment variables, a profile, or a role.
    #[default]
    Environment,
    /// A mounted Secret, one file an entry.
    Directory(PathBuf),
    Keys(AccessKeys),
}

/// A pair of keys. Never shown.
#[derive(Clone)]
pub struct AccessKeys {
    pub access_key: String,
    pub secret_key: String,
}

impl AccessKeys {
    fn provider(&self) -> SharedCredentialsProvider {
        let Self {
            access_key,
            secret_key,
        } = self.clone();
        SharedCredentialsProvider::new(Credentials::new(access_key, secret_key, None, None, "given"))
    }
}

impl fmt::Debug for AccessKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AccessKeys")
    }
}

/// Where the bucket's name goes in a request's URL.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Addressing {
    /// In the path when there is an endpoint, else in the host.
    #[default]
    Auto,
    Path,
    Virtual,
}

/// How often and how soon an operation is tried again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retries {
    /// The first one included.
    pub attempts: usize,
    /// Before the second attempt; doubles with each, jitter adds up to as much again.
    pub min_delay: Duration,
    pub max_delay: Duration,
    /// No attempt begins after this much time in attempts and pauses; waiting for a permit is not counted.
    pub budget: Duration,
}

impl Default for Retries {
    fn default() -> Self {
        Self {
            attempts: 5,
            min_delay: Duration::from_millis(200),
            max_delay: Duration::from_secs(5),
            budget: Duration::from_mins(1),
        }
    }
}

impl Retries {
    /// The pauses between the attempts of one operation.
    pub(super) fn delays(&self) -> ExponentialBackoff {
        ExponentialBuilder::new()
            .with_min_delay(self.min_delay)
            .with_max_delay(self.max_delay)
            .with_max_times(self.attempts.saturating_sub(1))
            .with_jitter()
            .build()
    }
}

/// Made ready with the first request, not with every client that may make one: the certificates of the system are
/// hundreds of files.
#[derive(Debug)]
struct WhenAsked(SharedHttpClient);

impl HttpClient for WhenAsked {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        self.0.http_connector(settings, components)
    }
}

/// Settings that cannot work, whatever the store says.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    #[error("the bucket has no name; set spec.storage.s3.bucket")]
    NoBucket,
    #[error("the endpoint {0:?} is not http://host or https://host; correct spec.storage.s3.endpoint")]
    Endpoint(String),
    #[error("the CA bundle {path} cannot be read; check the ConfigMap")]
    CaBundleUnreadable { path: PathBuf, source: std::io::Error },
    #[error("the CA bundle {path} is of no use ({reason}); it must hold PEM certificates")]
    CaBundleInvalid { path: PathBuf, reason: String },
    #[error("TLS cannot be set up ({0})")]
    Tls(String),
}

impl Settings {
    pub fn new(bucket: impl Into<String>) -> Self {
        Self {
            bucket: bucket.into(),
            region: None,
            endpoint: None,
            addressing: Addressing::default(),
            credentials: CredentialsFrom::Environment,
            ca_bundle: None,
            concurrency: 256,
            deadlines: Deadlines::default(),
            retries: Retries::default(),
        }
    }

    fn path_style(&self) -> bool {
        match self.addressing {
            Addressing::Auto => self.endpoint.is_some(),
            Addressing::Path => true,
            Addressing::Virtual => false,
        }
    }

    fn check(&self) -> Result<(), SettingsError> {
        if self.bucket.is_empty() {
            return Err(SettingsError::NoBucket);
        }
        match &self.endpoint {
            Some(endpoint) if !is_endpoint(endpoint) => Err(SettingsError::Endpoint(without_user(endpoint))),
            _ => Ok(()),
        }
    }

    /// The region is part of every signature, so there must be one even where it means nothing.
    async fn region(&self, provider: &ProviderConfig) -> Region {
        match (&self.region, &self.endpoint) {
            (Some(region), _) => Some(Region::new(region.clone())),
            (None, Some(_)) => None,
            (None, None) => {
                let chain = RegionProviderChain::first_try(EnvironmentVariableRegionProvider::new())
                    .or_else(ProfileFileRegionProvider::builder().configure(provider).build())
                    .or_else(ImdsRegionProvider::builder().configure(provider).build());
                within(self.deadlines.credentials, chain.region())
                    .await
                    .unwrap_or_default()
            }
        }
        .unwrap_or_else(|| Region::from_static(DEFAULT_REGION))
    }

    async fn trust(&self) -> Result<TrustStore, SettingsError> {
        let Some(path) = &self.ca_bundle else {
            return Ok(TrustStore::default());
        };
        let pem = tokio::fs::read(path)
            .await
            .map_err(|source| SettingsError::CaBundleUnreadable {
                path: path.clone(),
                source,
            })?;
        check_certificates(&pem).map_err(|reason| SettingsError::CaBundleInvalid {
            path: path.clone(),
            reason,
        })?;
        Ok(TrustStore::default().with_pem_certificate(pem))
    }

    async fn https(&self) -> Result<SharedHttpClient, SettingsError> {
        let trust = self.trust().await?;
        let context = TlsContext::builder()
            .with_trust_store(trust)
            .build()
            .map_err(|error| SettingsError::Tls(error.to_string()))?;
        Ok(self
            .http()
            .tls_provider(Provider::Rustls(CryptoMode::Ring))
            .tls_context(context)
            .build_https())
    }

    fn http(&self) -> aws_smithy_http_client::Builder {
        aws_smithy_http_client::Builder::new()
            .pool_max_idle_per_host(self.concurrency)
            .pool_idle_timeout(IDLE_CONNECTION)
    }

    /// The client, and the keys that it signs with.
    pub(super) async fn client(&self) -> Result<(Client, Arc<Keys>), SettingsError> {
        self.check()?;
        let https = self.https().await?;
        let provider = ProviderConfig::default().with_http_client(WhenAsked(https.clone()));
        let region = self.region(&provider).await;
        let source = match &self.credentials {
            CredentialsFrom::Directory(directory) => Source::Directory(directory.clone()),
            CredentialsFrom::Keys(keys) => Source::Chain(keys.provider()),
            CredentialsFrom::Environment => Source::Chain(SharedCredentialsProvider::new(
                DefaultCredentialsChain::builder()
                    .region(region.clone())
                    .configure(provider)
                    .build()
                    .await,
            )),
        };
        let keys = Arc::new(Keys::new(source, self.deadlines.credentials));
        let is_plain = |endpoint: &String| endpoint.starts_with("http://");
        let http = if self.endpoint.as_ref().is_some_and(is_plain) {
            self.http().build_http()
        } else {
            https
        };
        let mut config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .http_client(http)
            .region(region)
            .force_path_style(self.path_style())
            .credentials_provider(SharedCredentialsProvider::new(Signer(Arc::clone(&keys))))
            .identity_cache(IdentityCache::no_cache())
            .retry_config(RetryConfig::disabled())
            .timeout_config(
                TimeoutConfig::builder()
                    .connect_timeout(self.deadlines.connect)
                    .build(),
            )
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
        config.set_endpoint_url(self.endpoint.clone());
        Ok((Client::from_conf(config.build()), keys))
    }
}

/// A user's part would end up in logs, and the SDK would not send it.
fn is_endpoint(endpoint: &str) -> bool {
    let host = endpoint
        .strip_prefix("http://")
        .or_else(|| endpoint.strip_prefix("https://"));
    host.is_some_and(|host| {
        !host.is_empty() && !host.starts_with(['/', ':']) && !host.contains(['@', '?', '#', ' '])
    })
}

/// For messages: what stands before an `@` may be a password.
fn without_user(endpoint: &str) -> String {
    endpoint
        .rsplit_once('@')
        .map_or_else(|| endpoint.to_owned(), |(_, host)| format!("…@{host}"))
}

/// The HTTP client takes a bundle unseen and panics on a bad one later.
fn check_certificates(pem: &[u8]) -> Result<(), String> {
    let certificates = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| e.to_string())?;
    if certificates.is_empty() {
        return Err("no certificate in it".to_owned());
    }
    let mut roots = rustls::RootCertStore::empty();
    certificates
        .into_iter()
        .try_for_each(|certificate| roots.add(certificate))
        .map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_http_urls_are_endpoints() {
        for good in [
            "http://127.0.0.1:9000",
            "https://s3.example.com",
            "https://host/base",
        ] {
            assert!(is_endpoint(good), "{good}");
        }
        for bad in [
            "s3.example.com",
            "ftp://host",
            "https://",
            "http://:9000",
            "https://me:pw@host",
            "http://a b",
        ] {
            assert!(!is_endpoint(bad), "{bad}");
        }
    }

    #[test]
    fn a_password_in_an_endpoint_is_not_repeated_in_the_error() {
        let mut settings = Settings::new("bucket");
        settings.endpoint = Some("https://user:hunter2@host".to_owned());
        let message = settings.check().unwrap_err().to_string();
        assert!(!message.contains("hunter2"), "{message}");
        assert!(message.contains("host"), "{message}");
    }

    #[test]
    fn the_bucket_goes_into_the_path_when_there_is_an_endpoint_unless_asked_otherwise() {
        let mut settings = Settings::new("bucket");
        assert!(!settings.path_style());
        settings.endpoint = Some("http://localhost:9000".to_owned());
        assert!(settings.path_style());
        settings.addressing = Addressing::Virtual;
        assert!(!settings.path_style());
        settings.endpoint = None;
        settings.addressing = Addressing::Path;
        assert!(settings.path_style());
    }

    #[test]
    fn the_pauses_grow_and_end_one_short_of_the_attempts() {
        let retries = Retries::default();
        let delays: Vec<Duration> = retries.delays().collect();
        assert_eq!(delays.len(), retries.attempts - 1);
        assert!(delays[0] >= retries.min_delay && delays[0] <= retries.min_delay * 2);
        assert!(delays[3] >= retries.min_delay * 8 && delays[3] <= retries.min_delay * 16);
    }

    #[tokio::test]
    async fn a_broken_ca_bundle_is_an_error_and_not_a_panic() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ca.crt");
        let mut settings = Settings::new("bucket");
        settings.ca_bundle = Some(path.clone());
        assert!(matches!(
            settings.client().await,
            Err(SettingsError::CaBundleUnreadable { .. })
        ));
        let bad_pem = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for content in ["", "no certificate at all", bad_pem] {
            std::fs::write(&path, content).unwrap();
            let outcome = settings.client().await;
            assert!(
                matches!(outcome, Err(SettingsError::CaBundleInvalid { .. })),
                "{content:?}"
            );
        }
    }

    #[tokio::test]
    async fn a_store_with_an_endpoint_gets_the_default_region_and_a_given_region_wins() {
        let mut settings = Settings::new("bucket");
        settings.endpoint = Some("http://localhost:9000".to_owned());
        settings.credentials = CredentialsFrom::Directory("/nowhere".into());
        let (client, _) = settings.client().await.unwrap();
        assert_eq!(client.config().region().map(AsRef::as_ref), Some(DEFAULT_REGION));
        settings.region = Some("eu-west-1".to_owned());
        let (client, _) = settings.client().await.unwrap();
        assert_eq!(client.config().region().map(AsRef::as_ref), Some("eu-west-1"));
    }
}
