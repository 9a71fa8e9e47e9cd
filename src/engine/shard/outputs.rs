//! The outputs of a shard's work: one open at a time, and small ones that are being stored meanwhile.
//!
//! An output below one part is a single request, whose time is mostly latency; several such requests go
//! side by side, within the bytes that parts in flight may take otherwise. None outlives the checkpoint.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio_util::task::AbortOnDropHandle;

use super::ShardInput;
use crate::engine::body::{GroupState, OpenOutput, OutputRecord, Start, Tail};
use crate::engine::output::{Output, Saved, Sink};
use crate::engine::window::{Share, Shares};
use crate::engine::{Context, Error, Ledger};
use crate::format::{self, Codec};
use crate::plan::Plan;

/// Small outputs that are being stored at the same time, at most.
const CLOSING: usize = 32;

pub(super) struct Outputs<'a> {
    context: &'a Context,
    input: &'a ShardInput,
    shard: usize,
    sink: Sink,
    /// The first bytes of an output that is not open yet.
    first: Vec<u8>,
    open: Option<Open>,
    /// By their keys.
    closing: VecDeque<(String, AbortOnDropHandle<Result<OutputRecord, Error>>)>,
    finished: Vec<OutputRecord>,
    /// An upload that was opened while the output before it was completed.
    ahead: Option<Ahead>,
}

/// An upload of an output that has not begun.
struct Ahead {
    key: String,
    id: String,
}

/// The output that is being written.
struct Open {
    output: Output,
    group: String,
    start: Start,
    codec: Codec,
    records: u64,
}

impl<'a> Outputs<'a> {
    /// Goes on with the output that a body left open. `OutputLost` when that cannot be.
    pub(super) async fn resume(
        context: &'a Context,
        input: &'a ShardInput,
        shard: usize,
        shares: Shares,
        saved: Option<OpenOutput>,
    ) -> Result<Self, Error> {
        let frozen = &input.plan.frozen;
        let sink = Sink {
            store: Arc::clone(&context.store),
            ledger: context.ledger.clone(),
            fence: Arc::clone(&context.fence),
            attributes: frozen.attributes.clone(),
            part_bytes: frozen.part_bytes,
            uploads: shares.uploads,
            share: Share::new(frozen.part_bytes * shares.uploads as u64),
        };
        let open = match saved {
            Some(saved) => Some(reopen(context, &sink, input, shard, saved).await?),
            None => None,
        };
        Ok(Self {
            context,
            input,
            shard,
            sink,
            first: Vec::new(),
            open,
            closing: VecDeque::new(),
            finished: Vec::new(),
            ahead: None,
        })
    }

    /// Where parts take room, and how much each.
    pub(super) fn share(&self) -> (Share, u64) {
        (self.sink.share.clone(), self.sink.part_bytes)
    }

    /// Whether the open output has the size at which it is closed.
    pub(super) fn is_full(&self) -> bool {
        let target = self.input.plan.frozen.target_bytes;
        self.open.as_ref().is_some_and(|open| open.output.len() >= target)
    }

    /// Counts records that the open output has got.
    pub(super) fn count(&mut self, records: u64) {
        if let Some(open) = &mut self.open {
            open.records += records;
        }
    }

    /// Where the next bytes are appended, of which [`Self::take_over`] is then told.
    pub(super) fn pending(&mut self) -> &mut Vec<u8> {
        match &mut self.open {
            Some(open) => open.output.pending(),
            None => &mut self.first,
        }
    }

    /// Takes over what was appended; opens an output of `codec` that begins at `start` if there is none.
    pub(super) async fn take_over(
        &mut self,
        codec: Option<Codec>,
        group: Option<&mut GroupState>,
        start: &Start,
    ) -> Result<(), Error> {
        if let (false, Some(codec), Some(group)) = (self.first.is_empty(), codec, group) {
            let mut open = self.begin(codec, group, start);
            open.output.pending().append(&mut self.first);
            self.open = Some(open);
        }
        match &mut self.open {
            Some(open) => open.output.take_over().await,
            None => Ok(()),
        }
    }

    fn begin(&mut self, codec: Codec, group: &mut GroupState, start: &Start) -> Open {
        let (key, token) = name_output(self.input, self.shard, group, group.number, codec);
        group.number += 1;
        let ahead = self.ahead.take().filter(|ahead| ahead.key == key);
        let output = Output::new(self.sink.clone(), key, token).with_upload(ahead.map(|ahead| ahead.id));
        Open {
            output,
            group: group.directory.clone(),
            start: start.clone(),
            codec,
            records: 0,
        }
    }

    /// Closes the open output, if there is one. Returns its size. `group`: more of it follows, and needs another one.
    pub(super) async fn close(&mut self, group: Option<&GroupState>) -> Result<u64, Error> {
        let Some(open) = self.open.take() else {
            return Ok(0);
        };
        let size = open.output.len();
        if size >= self.sink.part_bytes || open.output.has_upload() {
            // They are told in their order.
            self.settle().await?;
            let ahead = open_ahead(&self.sink, self.input, self.shard, group, open.codec);
            // If none can be opened now, the output says why when it needs one.
            let (finished, ahead) = tokio::join!(close(open), ahead);
            self.ahead = ahead.ok().flatten();
            self.finished.push(finished?);
            return Ok(size);
        }
        while self.closing.len() >= CLOSING {
            self.settle_one().await?;
        }
        let room = self.sink.share.take(size).await;
        let key = open.output.key().to_owned();
        let stored = tokio::spawn(async move {
            let stored = close(open).await;
            drop(room);
            stored
        });
        self.closing.push_back((key, AbortOnDropHandle::new(stored)));
        Ok(size)
    }

    async fn settle_one(&mut self) -> Result<(), Error> {
        let Some((key, stored)) = self.closing.pop_front() else {
            return Ok(());
        };
        let stored = stored.await.map_err(|error| Error::TaskFailed {
            doing: format!("storing {key}"),
            why: error.to_string(),
        })?;
        self.finished.push(stored?);
        Ok(())
    }

    async fn settle(&mut self) -> Result<(), Error> {
        while !self.closing.is_empty() {
            self.settle_one().await?;
        }
        Ok(())
    }

    /// Makes everything durable for the body of `sequence`: what was finished since the last one, and
    /// what is open.
    pub(super) async fn save(
        &mut self,
        sequence: i64,
    ) -> Result<(Vec<OutputRecord>, Option<OpenOutput>), Error> {
        self.settle().await?;
        let open = match &mut self.open {
            Some(open) => Some(save(&self.context.ledger, open, sequence).await?),
            None => None,
        };
        Ok((std::mem::take(&mut self.finished), open))
    }
}

async fn close(open: Open) -> Result<OutputRecord, Error> {
    let Open {
        output,
        group,
        records,
        ..
    } = open;
    let (key, token) = (output.key().to_owned(), output.token().to_owned());
    let finished = output.close().await?;
    Ok(OutputRecord {
        key,
        size: finished.size,
        etag: finished.etag,
        crc64nvme: finished.crc64nvme,
        records,
        group,
        token,
    })
}

async fn open_ahead(
    sink: &Sink,
    input: &ShardInput,
    shard: usize,
    group: Option<&GroupState>,
    codec: Codec,
) -> Result<Option<Ahead>, Error> {
    let Some(group) = group else { return Ok(None) };
    let (key, token) = name_output(input, shard, group, group.number, codec);
    let id = sink.open_upload(&key, &token).await?;
    Ok(Some(Ahead { key, id }))
}

fn name_output(
    input: &ShardInput,
    shard: usize,
    group: &GroupState,
    number: u32,
    codec: Codec,
) -> (String, String) {
    let extension = format!("{}{}", group.extension, codec.extension());
    let encoder = format::encoder_version(codec);
    let key = input
        .plan
        .output_key(&input.plan_sha256, &group.directory, shard, number, &extension);
    (
        key,
        Plan::output_token(&input.plan_sha256, shard, &group.directory, number, encoder),
    )
}

async fn save(ledger: &Ledger, open: &mut Open, sequence: i64) -> Result<OpenOutput, Error> {
    let Saved {
        upload,
        sent_bytes,
        crc,
        tail,
    } = open.output.save().await?;
    let tail = match tail {
        Some(bytes) => {
            let (name, size) = (ledger.tail_name(sequence), bytes.len() as u64);
            let sha256 = ledger.put_tail(&name, bytes).await?;
            Some(Tail { name, size, sha256 })
        }
        None => None,
    };
    Ok(OpenOutput {
        start: open.start.clone(),
        key: open.output.key().to_owned(),
        codec: open.codec,
        encoder: format::encoder_version(open.codec).to_owned(),
        upload,
        sent_bytes,
        tail,
        crc,
        records: open.records,
    })
}

async fn reopen(
    context: &Context,
    sink: &Sink,
    input: &ShardInput,
    shard: usize,
    saved: OpenOutput,
) -> Result<Open, Error> {
    let lost = |why: &str| Error::OutputLost {
        key: saved.key.clone(),
        why: why.to_owned(),
    };
    if saved.encoder != format::encoder_version(saved.codec) {
        return Err(lost("it was begun by another version of the encoder"));
    }
    let tail = match &saved.tail {
        Some(tail) => {
            let bytes = context.ledger.tail(&tail.name, &tail.sha256, tail.size).await?;
            Some(bytes.ok_or_else(|| lost("its tail is missing or was altered"))?)
        }
        None => None,
    };
    let Some(group) = &saved.start.cursor.group else {
        return Err(lost("it belongs to no group"));
    };
    let (key, token) = name_output(input, shard, group, group.number, saved.codec);
    let resumed = Saved {
        upload: saved.upload,
        sent_bytes: saved.sent_bytes,
        crc: saved.crc,
        tail,
    };
    let output = Output::resume(sink.clone(), key, token, resumed).await?;
    Ok(Open {
        output,
        group: group.directory.clone(),
        start: saved.start.clone(),
        codec: saved.codec,
        records: saved.records,
    })
}
