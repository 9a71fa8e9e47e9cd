//! From kubectl's flags and kubeconfig files to a client: which cluster, as whom, in which namespace. What kubectl
//! chooses for the same words is chosen here. Never prints a kubeconfig's content but names.

use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper_util::client::proxy::matcher::Matcher;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use super::Error;
use super::cli::Connection;
use super::cluster::Cluster;

const CONNECT: Duration = Duration::from_secs(5);
/// Of a silent connection nobody knows whether it stands: it is given up. Longer than a watch lasts.
const SILENCE: Duration = Duration::from_secs(45);

pub(super) async fn connect(connection: &Connection) -> Result<Cluster, Error> {
    let mut config = match kubeconfig(connection)? {
        Some(kubeconfig) => of_kubeconfig(kubeconfig, connection).await?,
        None => in_cluster()?,
    };
    if let Some(user) = &connection.as_user {
        config.auth_info.impersonate = Some(user.clone());
        config.auth_info.impersonate_groups = Some(connection.as_groups.clone());
    }
    config.connect_timeout = Some(CONNECT);
    config.read_timeout = Some(SILENCE);
    config.reset_reader_on_write = true;
    let namespace = connection.namespace.clone();
    let namespace = namespace.unwrap_or_else(|| config.default_namespace.clone());
    let server = config.cluster_url.to_string().trim_end_matches('/').to_owned();
    let client = Client::try_from(config).map_err(|source| Error::Client {
        server: server.clone(),
        source: Box::new(source),
    })?;
    Ok(Cluster::new(client, namespace, server))
}

/// The files that kubectl would read, as one; `None` if there is none. Files of a list may be absent, one that is
/// named by a flag may not.
pub(super) fn kubeconfig(connection: &Connection) -> Result<Option<Kubeconfig>, Error> {
    if let Some(path) = &connection.kubeconfig {
        return read(path).map(Some);
    }
    let there = paths().into_iter().filter(|path| path.exists());
    there.map(|path| read(&path)).reduce(merge).transpose()
}

fn paths() -> Vec<PathBuf> {
    let listed = std::env::var_os("KUBECONFIG").unwrap_or_default();
    let listed: Vec<PathBuf> = std::env::split_paths(&listed)
        .filter(|path| !path.as_os_str().is_empty())
        .collect();
    if !listed.is_empty() {
        return listed;
    }
    let home = std::env::home_dir();
    home.map(|home| home.join(".kube/config")).into_iter().collect()
}

fn read(path: &Path) -> Result<Kubeconfig, Error> {
    Kubeconfig::read_from(path).map_err(|source| Error::Kubeconfig {
        path: path.to_owned(),
        source: Box::new(source),
    })
}

/// The first file to name something wins.
fn merge(first: Result<Kubeconfig, Error>, next: Result<Kubeconfig, Error>) -> Result<Kubeconfig, Error> {
    first?.merge(next?).map_err(config_error)
}

fn config_error(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Config(Box::new(error))
}

async fn of_kubeconfig(kubeconfig: Kubeconfig, connection: &Connection) -> Result<Config, Error> {
    let names = Names::of(&kubeconfig);
    let known = |what, name: &Option<String>, there: &[String]| match name {
        Some(name) if !there.contains(name) => Err(Error::Unknown {
            what,
            name: name.clone(),
            there: there.to_vec(),
        }),
        _ => Ok(()),
    };
    known("context", &connection.context, &names.contexts)?;
    known("cluster", &connection.cluster, &names.clusters)?;
    known("user", &connection.user, &names.users)?;
    let current = kubeconfig.current_context.as_deref().unwrap_or_default();
    if connection.context.is_none() && current.is_empty() {
        return Err(Error::NoContext {
            there: names.contexts,
        });
    }
    let options = KubeConfigOptions {
        context: connection.context.clone(),
        cluster: connection.cluster.clone(),
        user: connection.user.clone(),
    };
    let has_proxy = proxy_of(&kubeconfig, connection).is_some();
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &options)
        .await
        .map_err(config_error)?;
    if !has_proxy {
        // Of the proxies of the environment, only one that is meant for this cluster.
        let proxy = Matcher::from_env().intercept(&config.cluster_url);
        config.proxy_url = proxy.map(|proxy| proxy.uri().clone());
    }
    if config.default_namespace.is_empty() {
        "default".clone_into(&mut config.default_namespace);
    }
    Ok(config)
}

/// The proxy that the kubeconfig itself names for the cluster.
fn proxy_of(kubeconfig: &Kubeconfig, connection: &Connection) -> Option<String> {
    let context = connection
        .context
        .as_ref()
        .or(kubeconfig.current_context.as_ref())?;
    let mut contexts = kubeconfig.contexts.iter();
    let context = contexts.find(|named| named.name == *context)?.context.as_ref()?;
    let cluster = connection.cluster.as_ref().unwrap_or(&context.cluster);
    let mut clusters = kubeconfig.clusters.iter();
    let cluster = clusters.find(|named| named.name == *cluster)?.cluster.as_ref()?;
    cluster.proxy_url.clone().filter(|proxy| !proxy.is_empty())
}

/// As kubectl does in a pod, where there is no kubeconfig.
fn in_cluster() -> Result<Config, Error> {
    Config::incluster().map_err(|_| {
        let paths = paths();
        let looked: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
        Error::NoKubeconfig {
            looked: looked.join(" or "),
        }
    })
}

/// The names that a kubeconfig gives.
pub(super) struct Names {
    pub contexts: Vec<String>,
    pub clusters: Vec<String>,
    pub users: Vec<String>,
}

impl Names {
    pub(super) fn of(kubeconfig: &Kubeconfig) -> Self {
        Self {
            contexts: kubeconfig
                .contexts
                .iter()
                .map(|named| named.name.clone())
                .collect(),
            clusters: kubeconfig
                .clusters
                .iter()
                .map(|named| named.name.clone())
                .collect(),
            users: kubeconfig
                .auth_infos
                .iter()
                .map(|named| named.name.clone())
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROD: &str = "
current-context: prod
contexts:
- {name: prod, context: {cluster: prod, user: jane, namespace: lake}}
clusters:
- {name: prod, cluster: {server: 'https://prod.example:6443'}}
users:
- {name: jane, user: {token: not-to-be-told}}
";
    const TEST: &str = "
current-context: test
contexts:
- {name: test, context: {cluster: test}}
clusters:
- {name: test, cluster: {server: 'https://test.example', proxy-url: 'http://proxy.example:3128'}}
users: []
";

    fn kubeconfig_of(texts: &[&str]) -> Kubeconfig {
        let read = |text: &&str| Kubeconfig::from_yaml(text).map_err(config_error);
        texts.iter().map(read).reduce(merge).unwrap().unwrap()
    }

    async fn chosen(connection: &Connection) -> Result<(String, String), Error> {
        let config = of_kubeconfig(kubeconfig_of(&[PROD, TEST]), connection).await?;
        Ok((config.cluster_url.to_string(), config.default_namespace))
    }

    fn with(context: Option<&str>, cluster: Option<&str>) -> Connection {
        Connection {
            context: context.map(str::to_owned),
            cluster: cluster.map(str::to_owned),
            ..Connection::default()
        }
    }

    #[tokio::test]
    async fn the_first_files_context_is_the_current_one_and_the_context_names_the_namespace() {
        let (server, namespace) = chosen(&with(None, None)).await.unwrap();
        assert_eq!(
            (server.as_str(), namespace.as_str()),
            ("https://prod.example:6443/", "lake")
        );
        let (server, namespace) = chosen(&with(Some("test"), None)).await.unwrap();
        assert_eq!(
            (server.as_str(), namespace.as_str()),
            ("https://test.example/", "default")
        );
        let (server, namespace) = chosen(&with(None, Some("test"))).await.unwrap();
        assert_eq!(
            (server.as_str(), namespace.as_str()),
            ("https://test.example/", "lake")
        );
    }

    #[tokio::test]
    async fn a_context_that_is_not_there_is_told_with_those_that_are() {
        let error = chosen(&with(Some("pord"), None)).await.unwrap_err().to_string();
        assert_eq!(error, "the kubeconfig has no context pord; it has prod, test");
        let error = chosen(&with(None, Some("none"))).await.unwrap_err().to_string();
        assert!(error.contains("no cluster none"), "{error}");
    }

    #[test]
    fn a_proxy_of_the_kubeconfig_is_that_of_the_chosen_cluster() {
        let kubeconfig = kubeconfig_of(&[PROD, TEST]);
        assert_eq!(proxy_of(&kubeconfig, &with(None, None)), None);
        let proxy = proxy_of(&kubeconfig, &with(Some("test"), None));
        assert_eq!(proxy.as_deref(), Some("http://proxy.example:3128"));
    }

    #[test]
    fn a_file_that_is_named_must_be_there() {
        let connection = Connection {
            kubeconfig: Some("/no/such/kubeconfig".into()),
            ..Connection::default()
        };
        let error = kubeconfig(&connection).unwrap_err().to_string();
        assert!(error.contains("/no/such/kubeconfig"), "{error}");
    }
}
