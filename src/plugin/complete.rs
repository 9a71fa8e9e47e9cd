//! Completion as kubectl asks a plugin for it: the words after the plugin's name, the last one unfinished, are answered
//! by a line for each candidate and the number of a directive. An error is no candidate, and silent.

use std::time::Duration;

use clap::{Arg, Command, CommandFactory as _};

use super::Error;
use super::cli::{Cli, Connection};
use super::connect::{Names, connect, kubeconfig};
use super::say::say;
use super::target::Kind;
use crate::deadline::within;

/// Whoever waits for a completion has a finger on the key.
const PATIENCE: Duration = Duration::from_secs(2);

/// What the shell does besides, as kubectl numbers it.
const FILES: &str = ":0";
const NO_FILES: &str = ":4";

/// What can stand in the last word's place.
#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    /// Words, and what they mean.
    These(Vec<(String, String)>),
    Names(&'static [Kind]),
    Namespaces,
    Contexts,
    Clusters,
    Users,
    Files,
}

/// Prints the candidates for the last of `words`.
pub(super) async fn complete(words: &[String]) -> Result<(), Error> {
    let (last, before) = words
        .split_last()
        .map_or(("", words), |(last, before)| (last.as_str(), before));
    let (wanted, connection) = wanted(before, last);
    if wanted == Wanted::Files {
        return say(FILES);
    }
    let candidates = within(PATIENCE, candidates(wanted, &connection)).await;
    for (word, meaning) in candidates.unwrap_or_default() {
        if word.starts_with(last) {
            say(format!("{word}\t{meaning}").trim_end())?;
        }
    }
    say(NO_FILES)
}

async fn candidates(wanted: Wanted, connection: &Connection) -> Vec<(String, String)> {
    let names = match wanted {
        Wanted::These(these) => return these,
        Wanted::Names(kinds) => objects(kinds, connection).await,
        Wanted::Namespaces => match connect(connection).await {
            Ok(cluster) => cluster.namespaces().await.unwrap_or_default(),
            Err(_) => Vec::new(),
        },
        Wanted::Contexts => of_kubeconfig(connection, |names| names.contexts),
        Wanted::Clusters => of_kubeconfig(connection, |names| names.clusters),
        Wanted::Users => of_kubeconfig(connection, |names| names.users),
        Wanted::Files => Vec::new(),
    };
    names.into_iter().map(|name| (name, String::new())).collect()
}

/// Names of jobs as they are, and of schedules with their kind where there are both.
async fn objects(kinds: &[Kind], connection: &Connection) -> Vec<String> {
    let Ok(cluster) = connect(connection).await else {
        return Vec::new();
    };
    let mut all = Vec::new();
    for kind in kinds {
        let names = cluster.names(*kind).await.unwrap_or_default();
        let is_told = kinds.len() > 1 && *kind == Kind::Schedule;
        let told = |name: String| {
            if is_told {
                format!("{}/{name}", kind.word())
            } else {
                name
            }
        };
        all.extend(names.into_iter().map(told));
    }
    all
}

fn of_kubeconfig(connection: &Connection, which: fn(Names) -> Vec<String>) -> Vec<String> {
    let kubeconfig = kubeconfig(connection).ok().flatten();
    kubeconfig
        .map(|kubeconfig| which(Names::of(&kubeconfig)))
        .unwrap_or_default()
}

/// What `last` may become after the words before it, and which cluster these name.
fn wanted(before: &[String], last: &str) -> (Wanted, Connection) {
    let root = Cli::command();
    let mut seen = Seen {
        root: &root,
        command: &root,
        open: None,
        positionals: 0,
        connection: Connection::default(),
    };
    for word in before {
        seen.word(word);
    }
    (seen.next(last), seen.connection)
}

/// What the words before the unfinished one have said.
struct Seen<'a> {
    root: &'a Command,
    command: &'a Command,
    /// The flag whose value comes next.
    open: Option<&'a Arg>,
    positionals: usize,
    connection: Connection,
}

impl<'a> Seen<'a> {
    fn word(&mut self, word: &str) {
        if let Some(flag) = self.open.take() {
            self.value(flag, word);
        } else if let Some(long) = word.strip_prefix("--") {
            let (name, value) = long
                .split_once('=')
                .map_or((long, None), |(name, value)| (name, Some(value)));
            self.flag(|flag| flag.get_long() == Some(name), value);
        } else if let Some(short) = word.strip_prefix('-') {
            let letter = short.chars().next();
            let value = short.get(1..).filter(|value| !value.is_empty());
            self.flag(|flag| flag.get_short() == letter, value);
        } else if let Some(command) = self.command.find_subcommand(word) {
            self.command = command;
        } else {
            self.positionals += 1;
        }
    }

    fn flag(&mut self, is: impl Fn(&Arg) -> bool, value: Option<&str>) {
        let mut flags = self.flags();
        let Some(flag) = flags.find(|flag| is(flag) && flag.get_action().takes_values()) else {
            return;
        };
        drop(flags);
        match value {
            Some(value) => self.value(flag, value),
            None => self.open = Some(flag),
        }
    }

    /// Those of the command and those of every command.
    fn flags(&self) -> impl Iterator<Item = &'a Arg> + use<'a> {
        let of_root = self.root.get_arguments().filter(|flag| flag.is_global_set());
        let own = self.command.get_arguments().filter(|flag| !flag.is_global_set());
        own.chain(of_root).filter(|flag| !flag.is_positional())
    }

    fn value(&mut self, flag: &Arg, value: &str) {
        let text = Some(value.to_owned());
        let connection = &mut self.connection;
        match flag.get_id().as_str() {
            "kubeconfig" => connection.kubeconfig = Some(value.into()),
            "context" => connection.context = text,
            "cluster" => connection.cluster = text,
            "user" => connection.user = text,
            "namespace" => connection.namespace = text,
            "as_user" => connection.as_user = text,
            "as_groups" => connection.as_groups.push(value.to_owned()),
            _ => {}
        }
    }

    fn next(&self, last: &str) -> Wanted {
        if let Some(flag) = self.open {
            return match flag.get_id().as_str() {
                "kubeconfig" => Wanted::Files,
                "context" => Wanted::Contexts,
                "cluster" => Wanted::Clusters,
                "user" => Wanted::Users,
                "namespace" => Wanted::Namespaces,
                _ => Wanted::These(Vec::new()),
            };
        }
        if last.starts_with('-') {
            let flags = self
                .flags()
                .filter_map(|flag| Some((flag.get_long()?, flag.get_help())));
            let told = flags.map(|(name, help)| (format!("--{name}"), first_sentence(help)));
            return Wanted::These(told.collect());
        }
        if self.command.has_subcommands() {
            let commands = self
                .command
                .get_subcommands()
                .filter(|command| !command.is_hide_set());
            let told =
                commands.map(|command| (command.get_name().to_owned(), first_sentence(command.get_about())));
            return Wanted::These(told.collect());
        }
        match self.command.get_name() {
            _ if self.positionals > 0 => Wanted::These(Vec::new()),
            "run" => Wanted::Names(&[Kind::Schedule]),
            "retry" | "logs" => Wanted::Names(&[Kind::Job]),
            _ => Wanted::Names(&[Kind::Job, Kind::Schedule]),
        }
    }
}

/// A shell has one line for a candidate.
fn first_sentence(help: Option<&clap::builder::StyledStr>) -> String {
    let help = help.map(ToString::to_string).unwrap_or_default();
    let line = help.lines().next().unwrap_or_default();
    line.split(['.', ':']).next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(line: &str) -> (Wanted, Connection) {
        let (before, last) = line.rsplit_once(' ').unwrap_or(("", line));
        let before: Vec<String> = before.split_whitespace().map(str::to_owned).collect();
        wanted(&before, last)
    }

    fn words(line: &str) -> Vec<String> {
        match asked(line).0 {
            Wanted::These(these) => these.into_iter().map(|(word, _)| word).collect(),
            other => panic!("{line:?} asks for {other:?}"),
        }
    }

    #[test]
    fn commands_come_first_with_what_they_do() {
        assert_eq!(words(""), ["status", "suspend", "resume", "retry", "run", "logs"]);
        let Wanted::These(these) = asked("st").0 else {
            panic!("these are commands")
        };
        assert_eq!(these[0].1, "Show what a job does and why it waits");
    }

    #[test]
    fn names_are_of_the_kinds_that_the_command_takes_and_only_one_is_wanted() {
        let both = Wanted::Names(&[Kind::Job, Kind::Schedule]);
        assert_eq!(asked("status ").0, both);
        assert_eq!(asked("status -w lo").0, both);
        assert_eq!(asked("retry ").0, Wanted::Names(&[Kind::Job]));
        assert_eq!(asked("run h").0, Wanted::Names(&[Kind::Schedule]));
        assert_eq!(words("status logs "), [""; 0]);
    }

    #[test]
    fn flags_are_those_of_the_command_and_of_all() {
        let flags = words("logs --");
        for flag in ["--follow", "--shard", "--tail", "--namespace", "--context"] {
            assert!(flags.contains(&flag.to_owned()), "{flag} is in {flags:?}");
        }
        assert!(!words("retry --").contains(&"--follow".to_owned()));
    }

    #[test]
    fn values_of_flags_are_completed_and_the_cluster_is_the_one_that_they_name() {
        assert_eq!(asked("status --context ").0, Wanted::Contexts);
        assert_eq!(asked("status logs -n ").0, Wanted::Namespaces);
        assert_eq!(asked("--kubeconfig ").0, Wanted::Files);
        assert_eq!(words("logs --shard "), [""; 0]);
        let (wanted, connection) = asked("--context=prod status -n lake --as jane -w ");
        assert_eq!(wanted, Wanted::Names(&[Kind::Job, Kind::Schedule]));
        assert_eq!(
            connection,
            Connection {
                context: Some("prod".to_owned()),
                namespace: Some("lake".to_owned()),
                as_user: Some("jane".to_owned()),
                ..Connection::default()
            }
        );
    }
}
