//! Waiting for objects of the cluster: what `kubectl get --watch` says of them, until it is what a test waits for.

use std::io::BufReader;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use serde_json::Value;

/// No test waits longer for one thing: it would be stuck for good.
pub const LIMIT: Duration = Duration::from_mins(5);

/// A watch that tells nothing for so long is begun again, in case it has missed something.
const AGAIN: Duration = Duration::from_secs(10);

/// The objects that a `kubectl get --watch --output json` prints, each time that they change.
struct Watch {
    kubectl: Child,
    objects: Receiver<Value>,
}

impl Watch {
    fn start(command: &mut Command) -> Self {
        let mut kubectl = command
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let output = BufReader::new(kubectl.stdout.take().unwrap());
        let (sender, objects) = channel();
        std::thread::spawn(move || {
            let objects = serde_json::Deserializer::from_reader(output).into_iter::<Value>();
            // The last object is cut when kubectl is killed.
            for object in objects.map_while(Result::ok) {
                if sender.send(object).is_err() {
                    return;
                }
            }
        });
        Self { kubectl, objects }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.kubectl.kill().ok();
        self.kubectl.wait().ok();
    }
}

/// What becomes of one object, each of its versions, from the first one that `get` prints.
pub struct Life {
    watch: Watch,
    seen: Vec<Value>,
}

impl Life {
    pub fn follow(mut get: Command) -> Self {
        Self {
            watch: Watch::start(get.args(["--watch", "--output", "json"])),
            seen: Vec::new(),
        }
    }

    /// All versions up to the first one that is the end, which must come.
    #[track_caller]
    pub fn until(mut self, what: &str, is_end: impl Fn(&Value) -> bool) -> Vec<Value> {
        while !self.seen.last().is_some_and(&is_end) {
            match self.watch.objects.recv_timeout(LIMIT) {
                Ok(object) => self.seen.push(object),
                Err(error) => panic!(
                    "waited in vain for {what} ({error}); the last: {:#?}",
                    self.seen.last()
                ),
            }
        }
        self.seen
    }
}

/// Looks at every object that `get` prints until `look` finds something. `get` is begun again when it ends, as it
/// does when the object is not there yet or the API server goes away, and now and then.
#[track_caller]
pub fn until<T>(what: &str, get: impl Fn() -> Command, mut look: impl FnMut(&Value) -> Option<T>) -> T {
    let deadline = Instant::now() + LIMIT;
    let mut last = Value::Null;
    while Instant::now() < deadline {
        let watch = Watch::start(get().args(["--watch", "--output", "json"]));
        loop {
            match watch.objects.recv_timeout(AGAIN) {
                Ok(object) => {
                    if let Some(found) = look(&object) {
                        return found;
                    }
                    last = object;
                }
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => {
                    std::thread::sleep(Duration::from_millis(200));
                    break;
                }
            }
        }
    }
    panic!("waited in vain for {what}; the last that was seen: {last:#}");
}

/// Asks again and again until `look` finds something, where there is nothing to watch.
#[track_caller]
pub fn ask<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + LIMIT;
    while Instant::now() < deadline {
        if let Some(found) = look() {
            return found;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    panic!("waited in vain for {what}");
}
