//! `status --watch`: shows a job until it ends, live on a terminal, elsewhere a line for each change. Writes nothing to
//! the cluster.

use std::io::IsTerminal as _;
use std::time::Duration;

use futures::StreamExt as _;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use jiff::Timestamp;
use kube::ResourceExt as _;

use super::cluster::Cluster;
use super::say::say;
use super::status::{End, end, lines, lines_on, news};
use super::words::{Screen, since};
use super::{Error, follow};
use crate::api::CompactionJob;

/// Ages go on between two changes.
const REDRAW: Duration = Duration::from_secs(1);

/// From `job`, which was just read, to the end of it.
pub(super) async fn watch(cluster: &Cluster, job: CompactionJob) -> Result<End, Error> {
    let name = job.name_any();
    let call = format!("watch the job {name}");
    let mut view = View::new();
    view.show(&job)?;
    if let Some(end) = end(&job) {
        view.finish(&job)?;
        return Ok(end);
    }
    let (uid, mut last) = (job.uid(), job);
    let mut changes = Box::pin(follow::job(cluster, &name));
    let mut redraw = tokio::time::interval(REDRAW);
    loop {
        let change = tokio::select! {
            change = changes.next() => change,
            _ = redraw.tick() => {
                view.redraw(&last);
                continue;
            }
        };
        match change.transpose() {
            Ok(change) => {
                let same = change.flatten().filter(|job| job.uid() == uid);
                let Some(job) = same else {
                    view.finish(&last)?;
                    return Err(Error::Deleted { what: "job", name });
                };
                view.show(&job)?;
                last = job;
                if let Some(end) = end(&last) {
                    view.finish(&last)?;
                    return Ok(end);
                }
            }
            Err(error) => view.interrupted(follow::for_good(cluster, &call, error)?),
        }
    }
}

/// As indicatif takes it, which cuts off what is more.
fn screen() -> Screen {
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok();
    let size = size.filter(|size| size.ws_row > 0 && size.ws_col > 0);
    let (rows, columns) = size.map_or((24, 80), |size| (size.ws_row, size.ws_col));
    Screen {
        rows: rows.into(),
        columns: columns.into(),
    }
}

/// What was shown last, and where.
struct View {
    /// The lines that are drawn anew; without a terminal there are none.
    live: Option<ProgressBar>,
    shown: Option<CompactionJob>,
    /// When and why the watch broke, if nothing was heard since.
    broken: Option<(Timestamp, String)>,
}

impl View {
    fn new() -> Self {
        let live = std::io::stdout().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stdout());
            // A template of one field is always valid.
            let style =
                ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_spinner());
            bar.with_style(style)
        });
        Self {
            live,
            shown: None,
            broken: None,
        }
    }

    fn show(&mut self, job: &CompactionJob) -> Result<(), Error> {
        if self.broken.take().is_some() && self.live.is_none() {
            eprintln!("the cluster answers again");
        }
        if self.live.is_some() {
            self.redraw(job);
        } else {
            for line in news(self.shown.as_ref(), job, Timestamp::now()) {
                say(&line)?;
            }
        }
        self.shown = Some(job.clone());
        Ok(())
    }

    fn redraw(&self, job: &CompactionJob) {
        let Some(live) = &self.live else { return };
        let now = Timestamp::now();
        let mut screen = screen();
        let broken = self.broken.as_ref().map(|(when, why)| {
            let age = since(*when, now);
            format!("\nthe watch broke {age} ago, and is begun again: {why}")
        });
        screen.rows = screen.rows.saturating_sub(screen.rows_of(broken.as_slice()));
        let mut lines = lines_on(screen, job, now);
        lines.extend(broken);
        live.set_message(lines.join("\n"));
        live.tick();
    }

    fn interrupted(&mut self, why: String) {
        if self.broken.is_none() && self.live.is_none() {
            eprintln!("the watch broke, and is begun again: {why}");
        }
        self.broken = Some((Timestamp::now(), why));
    }

    /// Leaves the last state on the terminal.
    fn finish(&mut self, job: &CompactionJob) -> Result<(), Error> {
        let Some(live) = self.live.take() else {
            return Ok(());
        };
        live.finish_and_clear();
        lines(job, Timestamp::now()).iter().try_for_each(|line| say(line))
    }
}
