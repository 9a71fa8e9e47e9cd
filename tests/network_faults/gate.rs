//! The first stretch of the worker's way to the store. The gate reads the head of every request before it lets it
//! go on, so that a fault begins at a certain request and not at a certain time; it stops that request until the
//! fault is in place. It can also refuse connections, and hold up what is on its way.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};

use crate::request::{Moment, Request};

/// What is read at one time: small, so that what was held up has not gone through already.
const PIECE: usize = 16 << 10;
const LONGEST_HEAD: usize = 64 << 10;

/// Where in an exchange a fault begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Before the request goes on.
    Request,
    /// When half of its body has.
    MiddleOfRequest,
    /// When the first bytes of its answer have come, or, of a long one, a part of its body.
    MiddleOfAnswer,
}

/// A stopped request; goes on when this is dropped.
pub struct Stopped {
    _go_on: oneshot::Sender<()>,
}

struct Armed {
    moment: Moment,
    /// How many of these requests are let through first.
    left: usize,
    place: Place,
    reached: oneshot::Sender<Stopped>,
}

#[derive(Debug, Clone, Copy, Default)]
struct HeldUp {
    requests: bool,
    answers: bool,
}

struct Shared {
    upstream: SocketAddr,
    bucket: String,
    armed: Mutex<Option<Armed>>,
    held_up: watch::Sender<HeldUp>,
    seen: Box<dyn Fn(Request) + Send + Sync>,
}

pub struct Gate {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Mutex<Option<JoinHandle<()>>>,
}

impl Gate {
    /// Listens at `address` and leads to `upstream`. `seen` is told of every request for something in `bucket`.
    pub async fn open(
        address: SocketAddr,
        upstream: SocketAddr,
        bucket: &str,
        seen: impl Fn(Request) + Send + Sync + 'static,
    ) -> Self {
        let gate = Self {
            address,
            shared: Arc::new(Shared {
                upstream,
                bucket: bucket.to_owned(),
                armed: Mutex::new(None),
                held_up: watch::Sender::default(),
                seen: Box::new(seen),
            }),
            accepting: Mutex::new(None),
        };
        gate.accept().await;
        gate
    }

    /// Stops the `nth` request of this kind from now on (the first is 1), at this place.
    pub fn arm(&self, moment: Moment, nth: usize, place: Place) -> oneshot::Receiver<Stopped> {
        let (reached, told) = oneshot::channel();
        *self.shared.armed.lock().unwrap() = Some(Armed {
            moment,
            left: nth - 1,
            place,
            reached,
        });
        told
    }

    /// Nobody listens any more, and what was open is closed.
    pub async fn refuse(&self) {
        let accepting = self.accepting.lock().unwrap().take();
        if let Some(accepting) = accepting {
            accepting.abort();
            accepting.await.ok();
        }
    }

    pub async fn accept(&self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        let accepting = tokio::spawn(accept(listener, Arc::clone(&self.shared)));
        *self.accepting.lock().unwrap() = Some(accepting);
    }

    /// Bytes of requests go no further; connections stay open.
    pub fn hold_up_requests(&self) {
        self.shared.held_up.send_modify(|held_up| held_up.requests = true);
    }

    /// Bytes of answers go no further; connections stay open.
    pub fn hold_up_answers(&self) {
        self.shared.held_up.send_modify(|held_up| held_up.answers = true);
    }

    /// What was held up goes on.
    pub fn let_through(&self) {
        self.shared.held_up.send_replace(HeldUp::default());
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    // With this task, its connections end.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (connection, _) = accepted.unwrap();
                connections.spawn(relay(connection, Arc::clone(&shared)));
            }
            Some(ended) = connections.join_next() => ended.unwrap(),
        }
    }
}

/// One connection, until either side ends it. The worker is told of an end in the way in which it came.
async fn relay(mut worker: TcpStream, shared: Arc<Shared>) {
    let Ok(mut store) = TcpStream::connect(shared.upstream).await else {
        return;
    };
    worker.set_nodelay(true).unwrap();
    store.set_nodelay(true).unwrap();
    let middle = Middle::default();
    let ended = {
        let (from_worker, to_worker) = worker.split();
        let (from_store, to_store) = store.split();
        let requests = Requests {
            from: from_worker,
            to: to_store,
            buffer: Vec::new(),
            shared: &shared,
            middle: &middle,
        };
        let mut answers = pin!(answers(from_store, to_worker, &shared, &middle));
        tokio::select! {
            ended = &mut answers => ended,
            // A store may answer before it has read everything.
            ended = requests.run() => if ended.is_ok() { Ok(()) } else { answers.await },
        }
    };
    if ended.is_err() {
        worker.set_zero_linger().ok();
    }
}

/// After how many more bytes of answers the fault begins, if it is here.
type Middle = Mutex<Option<(usize, Armed)>>;

struct Requests<'a> {
    from: ReadHalf<'a>,
    to: WriteHalf<'a>,
    /// Read, and not sent on yet.
    buffer: Vec<u8>,
    shared: &'a Shared,
    middle: &'a Middle,
}

impl Requests<'_> {
    /// `Ok` when the worker has ended the connection, an error when the store takes no more.
    async fn run(mut self) -> io::Result<()> {
        while self.one().await? {}
        Ok(())
    }

    /// Sends one request on. False when there is none.
    async fn one(&mut self) -> io::Result<bool> {
        let Some(end) = self.head().await else {
            return Ok(false);
        };
        let head = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
        let request = Request::parse(&head, &self.shared.bucket);
        let mut left = end as u64 + request.length;
        let mut stop_at = None;
        if let Some(armed) = self.shared.meet(&request) {
            match armed.place {
                Place::Request => stop(armed).await,
                Place::MiddleOfRequest => stop_at = Some((end as u64 + request.length / 2, armed)),
                Place::MiddleOfAnswer => {
                    let after = if request.has_long_answer() { 2000 } else { 50 };
                    *self.middle.lock().unwrap() = Some((after, armed));
                }
            }
        }
        (self.shared.seen)(request);
        let mut sent = 0;
        while left > 0 {
            if let Some((_, armed)) = stop_at.take_if(|(at, _)| sent >= *at) {
                stop(armed).await;
            }
            let most = stop_at.as_ref().map_or(left, |(at, _)| *at - sent).min(left);
            let Some(piece) = self.piece(most as usize).await else {
                return Ok(false);
            };
            self.shared.passes(|held_up| held_up.requests).await;
            self.to.write_all(&piece).await?;
            left -= piece.len() as u64;
            sent += piece.len() as u64;
        }
        Ok(true)
    }

    /// Reads until a whole head is in the buffer, and returns its length.
    async fn head(&mut self) -> Option<usize> {
        loop {
            if let Some(at) = memchr::memmem::find(&self.buffer, b"\r\n\r\n") {
                return Some(at + 4);
            }
            assert!(self.buffer.len() < LONGEST_HEAD, "a head without an end");
            self.read().await?;
        }
    }

    /// Some bytes of a body, at most so many.
    async fn piece(&mut self, most: usize) -> Option<Vec<u8>> {
        if self.buffer.is_empty() {
            self.read().await?;
        }
        let rest = self.buffer.split_off(most.min(self.buffer.len()));
        Some(std::mem::replace(&mut self.buffer, rest))
    }

    async fn read(&mut self) -> Option<()> {
        let mut piece = vec![0; PIECE];
        let count = self.from.read(&mut piece).await.ok().filter(|count| *count > 0)?;
        self.buffer.extend_from_slice(&piece[..count]);
        Some(())
    }
}

async fn answers(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    shared: &Shared,
    middle: &Middle,
) -> io::Result<()> {
    let mut buffer = vec![0; PIECE];
    loop {
        let count = from.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        let mut piece = &buffer[..count];
        if let Some((after, armed)) = due(middle, count) {
            to.write_all(&piece[..after]).await?;
            piece = &piece[after..];
            stop(armed).await;
        }
        shared.passes(|held_up| held_up.answers).await;
        to.write_all(piece).await?;
    }
}

/// Counts bytes of answers; the fault that begins among them, and after how many of these.
fn due(middle: &Middle, count: usize) -> Option<(usize, Armed)> {
    let mut middle = middle.lock().unwrap();
    let (after, _) = middle.as_mut()?;
    if *after <= count {
        return middle.take();
    }
    *after -= count;
    None
}

impl Shared {
    /// The fault that begins at this request, if it is the one.
    fn meet(&self, request: &Request) -> Option<Armed> {
        let mut armed = self.armed.lock().unwrap();
        let waiting = armed.as_mut().filter(|armed| request.is_at(armed.moment))?;
        if waiting.left > 0 {
            waiting.left -= 1;
            return None;
        }
        armed.take()
    }

    async fn passes(&self, is_held_up: impl Fn(&HeldUp) -> bool) {
        let mut held_up = self.held_up.subscribe();
        held_up.wait_for(|held_up| !is_held_up(held_up)).await.ok();
    }
}

/// Tells the test, and waits for it.
async fn stop(armed: Armed) {
    let (go_on, told) = oneshot::channel();
    if armed.reached.send(Stopped { _go_on: go_on }).is_ok() {
        told.await.ok();
    }
}
