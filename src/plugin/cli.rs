//! The plugin's command line: what can be asked for. No logic.
#![allow(clippy::doc_markdown)] // The doc comments are the help text.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use super::target::{JobName, ScheduleName, Target};

/// Shows, suspends, resumes and retries compactions in a cluster.
#[derive(Debug, Parser)]
#[command(
    name = "kubectl-compaction",
    bin_name = "kubectl compaction",
    version,
    after_help = "Completion by kubectl's own: a link named kubectl_complete-compaction to this program, on the PATH."
)]
pub struct Cli {
    #[command(flatten)]
    pub connection: Connection,
    #[command(subcommand)]
    pub command: Command,
}

/// Which cluster, as whom and where: kubectl's own flags.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct Connection {
    /// A kubeconfig file; default: those of KUBECONFIG, else ~/.kube/config.
    #[arg(long, global = true, value_name = "FILE", help_heading = "Cluster")]
    pub kubeconfig: Option<PathBuf>,
    /// The kubeconfig's context.
    #[arg(long, global = true, value_name = "NAME", help_heading = "Cluster")]
    pub context: Option<String>,
    /// The kubeconfig's cluster, in place of the context's.
    #[arg(long, global = true, value_name = "NAME", help_heading = "Cluster")]
    pub cluster: Option<String>,
    /// The kubeconfig's user, in place of the context's.
    #[arg(long, global = true, value_name = "NAME", help_heading = "Cluster")]
    pub user: Option<String>,
    /// Where the job or schedule is; default: the context's.
    #[arg(
        short,
        long,
        global = true,
        value_name = "NAMESPACE",
        help_heading = "Cluster"
    )]
    pub namespace: Option<String>,
    /// Whom to act as: a user, or system:serviceaccount:NAMESPACE:NAME.
    #[arg(long = "as", global = true, value_name = "USER", help_heading = "Cluster")]
    pub as_user: Option<String>,
    /// A group to act as, besides --as; may be repeated.
    #[arg(
        long = "as-group",
        global = true,
        value_name = "GROUP",
        help_heading = "Cluster"
    )]
    pub as_groups: Vec<String>,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show what a job does and why it waits: plan, progress, shards, failures.
    Status(StatusArguments),
    /// Stop a job at its next checkpoints, or a schedule: sets spec.suspend.
    Suspend {
        /// A job, or schedule/NAME.
        #[arg(value_name = "JOB")]
        target: Target,
    },
    /// Let a suspended job go on from its checkpoints, or a schedule: clears spec.suspend.
    Resume {
        /// A job, or schedule/NAME.
        #[arg(value_name = "JOB")]
        target: Target,
    },
    /// Let a failed job go on from its checkpoints: sets a new spec.retryToken.
    Retry { job: JobName },
    /// Start one run of a schedule now: sets a new spec.manualTrigger.
    Run { schedule: ScheduleName },
    /// Print what a job's workers log.
    Logs(LogsArguments),
}

#[derive(Debug, Args)]
pub struct StatusArguments {
    /// A job, or schedule/NAME.
    #[arg(value_name = "JOB")]
    pub target: Target,
    /// Go on showing it until the job ends: with 0 if it succeeded, with 1 if it failed. Live on a terminal,
    /// elsewhere a line for each change.
    #[arg(short, long)]
    pub watch: bool,
}

#[derive(Debug, Args)]
pub struct LogsArguments {
    pub job: JobName,
    /// Go on until the job ends, over the pods that are still to come too.
    #[arg(short, long)]
    pub follow: bool,
    /// Only the pods of this shard.
    #[arg(long, value_name = "N")]
    pub shard: Option<i32>,
    /// Only so many of the last lines of each pod that there is.
    #[arg(long, value_name = "LINES", value_parser = clap::value_parser!(i64).range(0..))]
    pub tail: Option<i64>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::super::target::Kind;
    use super::*;

    fn parsed(words: &str) -> Cli {
        Cli::try_parse_from(words.split(' ')).unwrap()
    }

    fn refused(words: &str) -> String {
        Cli::try_parse_from(words.split(' ')).unwrap_err().to_string()
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn kubectls_flags_are_taken_before_and_after_the_command() {
        for words in [
            "kubectl-compaction -n lake --context=prod --as jane --as-group a --as-group b status logs",
            "kubectl-compaction status logs -n lake --context prod --as=jane --as-group=a --as-group=b",
        ] {
            let connection = parsed(words).connection;
            let wanted = Connection {
                context: Some("prod".to_owned()),
                namespace: Some("lake".to_owned()),
                as_user: Some("jane".to_owned()),
                as_groups: vec!["a".to_owned(), "b".to_owned()],
                ..Connection::default()
            };
            assert_eq!(connection, wanted, "{words}");
        }
    }

    #[test]
    fn a_job_and_a_schedule_are_told_apart() {
        let Command::Suspend { target } = parsed("kubectl-compaction suspend schedule/hourly").command else {
            panic!("it is a suspend")
        };
        assert_eq!((target.kind, target.name.as_str()), (Kind::Schedule, "hourly"));
        let Command::Status(arguments) = parsed("kubectl-compaction status -w logs").command else {
            panic!("it is a status")
        };
        assert_eq!(
            (arguments.target.kind, arguments.target.name.as_str()),
            (Kind::Job, "logs")
        );
        assert!(arguments.watch);
    }

    #[test]
    fn what_a_command_cannot_do_is_refused_with_the_reason() {
        assert!(refused("kubectl-compaction retry schedule/hourly").contains("is no job"));
        assert!(refused("kubectl-compaction run job/logs").contains("is no schedule"));
        assert!(refused("kubectl-compaction status pod/logs").contains("neither a job nor a schedule"));
        assert!(refused("kubectl-compaction status").contains("JOB"));
        assert!(refused("kubectl-compaction logs logs --tail -1").contains("-1"));
    }
}
