//! The cases. Each is a list of rules, of which the last one is the fault in question and those before it
//! bring the job where that can happen.

use crate::fault::Fault::{AnswerCut, AnswerLost, Bare, Error, InSuccess, Page, UploadEnded};
use crate::fault::Often::{ForEver, Times, UntilKnown};
use crate::fault::{Fault, Often, On, Rule};
use crate::operation::Of::{
    Body, Candidates, Consumed, Ledger, Manifest, Output, Plan, Probe, Record, Segment, Source, Success, Tail,
};
use crate::operation::Verb::{
    Abort, Complete, Create, Delete, Get, Head, List, ListParts, ListUploads, Put, UploadPart,
};
use crate::operation::{Of, Verb};
use crate::shape::Shape;

pub struct Case {
    pub rules: Vec<Rule>,
    /// Of one shape alone; the other has nothing for the rules to fall on.
    pub only: Option<Shape>,
    /// `None`: the job succeeds. Else it fails, and its condition names these.
    pub fails: Option<&'static [&'static str]>,
}

impl Case {
    pub fn fault(&self) -> &Rule {
        self.rules.last().unwrap()
    }

    /// The job fails and its condition says so.
    fn fails(mut self, names: &'static [&'static str]) -> Self {
        self.fails = Some(names);
        self
    }

    fn only(mut self, shape: Shape) -> Self {
        self.only = Some(shape);
        self
    }

    /// After something else has gone wrong.
    fn behind(mut self, rule: Rule) -> Self {
        self.rules.insert(0, rule);
        self
    }
}

const fn rule(on: On, after: usize, fault: Fault, often: Often) -> Rule {
    Rule {
        on,
        after,
        fault,
        often,
    }
}

fn case(verb: Verb, after: usize, fault: Fault, often: Often) -> Case {
    on(On::Verb(verb), after, fault, often)
}

fn of(verb: Verb, of: Of, after: usize, fault: Fault, often: Often) -> Case {
    on(On::Of(verb, of), after, fault, often)
}

fn on(on: On, after: usize, fault: Fault, often: Often) -> Case {
    Case {
        rules: vec![rule(on, after, fault, often)],
        only: None,
        fails: None,
    }
}

/// Ends a worker in the middle of its batches: the next one goes on from the checkpoint.
const RESTART: Rule = rule(On::Of(Get, Source), MIDWAY, Error(403, "AccessDenied"), Times(1));
/// Makes the outcome of a Complete unknown.
const UNKNOWN: Rule = rule(On::Of(Complete, Output), 0, Error(500, "InternalError"), Times(1));
/// Leaves an upload whose id nobody has learned.
const UNLEARNED: Rule = rule(On::Of(Create, Output), 0, AnswerLost, Times(1));
/// Reads of sources before the middle of a job of either shape.
const MIDWAY: usize = 4;
/// The record of the intention comes before that of the upload.
const OPENED: usize = 1;
/// The probe deletes a single object before.
const IN_BULK: usize = 1;
/// The first list is made by `run` itself, which ends if it fails.
const FIRST: usize = 1;

const INTERNAL: Fault = Error(500, "InternalError");
const SLOW_DOWN: Fault = Error(503, "SlowDown");
const DENIED: Fault = Error(403, "AccessDenied");
const EXPIRED: Fault = Error(400, "ExpiredToken");
const NO_KEY: Fault = Error(404, "NoSuchKey");
const NO_UPLOAD: Fault = Error(404, "NoSuchUpload");
const INVALID: Fault = Error(400, "InvalidRequest");
const FULL: Fault = Error(507, "XMinioStorageFull");

pub fn all() -> Vec<Case> {
    [
        everywhere(),
        listing(),
        reading(),
        looking(),
        putting(),
        parts(),
        completing(),
        ending(),
        deleting(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn everywhere() -> Vec<Case> {
    vec![
        on(On::Any, 30, SLOW_DOWN, Times(60)),
        on(On::Any, 30, INTERNAL, Times(60)),
        on(On::Any, 30, EXPIRED, UntilKnown),
        on(On::Any, 30, Page(404), UntilKnown),
        on(On::Any, 30, AnswerLost, Times(3)),
        of(Put, Probe, 0, INTERNAL, UntilKnown),
        of(Create, Probe, 0, AnswerLost, Times(1)),
        of(UploadPart, Probe, 0, DENIED, Times(1)),
        of(Complete, Probe, 0, AnswerLost, Times(1)),
        of(Complete, Probe, 0, INVALID, Times(1)),
        of(Put, Probe, 0, AnswerLost, Times(1)),
        of(Delete, Probe, IN_BULK, INTERNAL, UntilKnown),
    ]
}

fn listing() -> Vec<Case> {
    vec![
        case(List, FIRST, INTERNAL, Times(3)),
        case(List, FIRST, SLOW_DOWN, UntilKnown),
        case(List, FIRST, DENIED, Times(1)),
        case(List, FIRST, EXPIRED, UntilKnown),
        case(List, FIRST, NO_KEY, Times(1)),
        case(List, FIRST, Page(404), Times(1)),
        case(List, FIRST, AnswerCut, Times(1)),
    ]
}

fn reading() -> Vec<Case> {
    vec![
        of(Get, Source, MIDWAY, NO_KEY, Times(1)),
        of(Get, Source, MIDWAY, INTERNAL, Times(3)),
        of(Get, Source, MIDWAY, SLOW_DOWN, UntilKnown),
        of(Get, Source, MIDWAY, DENIED, Times(1)),
        of(Get, Source, MIDWAY, Error(412, "PreconditionFailed"), Times(1)),
        of(Get, Source, MIDWAY, Page(200), Times(1)),
        of(Get, Source, MIDWAY, AnswerCut, Times(1)),
        of(Get, Plan, 0, NO_KEY, Times(1)),
        of(Get, Segment, 0, NO_KEY, Times(1)),
        of(Get, Body, 0, NO_KEY, Times(1)),
        of(Get, Body, 0, INTERNAL, UntilKnown),
        of(Get, Candidates, 0, NO_KEY, Times(1)),
        of(Get, Record, 0, NO_KEY, Times(1)),
        of(Get, Tail, 0, NO_KEY, Times(1))
            .behind(RESTART)
            .only(Shape::Tails),
        of(Get, Tail, 0, INTERNAL, UntilKnown)
            .behind(RESTART)
            .only(Shape::Tails),
    ]
}

fn looking() -> Vec<Case> {
    vec![
        of(Head, Output, 0, Bare(404), Times(1)),
        of(Head, Output, 0, Bare(500), Times(3)),
        of(Head, Output, 0, Bare(403), UntilKnown),
        of(Head, Output, 0, Bare(400), Times(1)),
        of(Head, Candidates, 0, Bare(404), Times(1)),
        of(Head, Output, 0, Bare(404), Times(1)).behind(UNKNOWN),
    ]
}

fn putting() -> Vec<Case> {
    vec![
        of(Put, Tail, 1, INTERNAL, UntilKnown).only(Shape::Tails),
        of(Put, Tail, 1, SLOW_DOWN, Times(3)).only(Shape::Tails),
        of(Put, Tail, 1, AnswerLost, Times(1)).only(Shape::Tails),
        of(Put, Tail, 1, DENIED, Times(1)).only(Shape::Tails),
        of(Put, Tail, 1, NO_KEY, Times(1)).only(Shape::Tails),
        of(Put, Tail, 1, INVALID, Times(1)).only(Shape::Tails),
        of(Put, Body, 0, AnswerLost, Times(1)),
        of(Put, Body, 0, INTERNAL, UntilKnown),
        of(Put, Body, 0, NO_KEY, Times(1)),
        of(Put, Body, 0, InSuccess("InternalError"), Times(1)),
        of(Put, Plan, 0, AnswerLost, Times(1)),
        of(Put, Plan, 0, SLOW_DOWN, UntilKnown),
        of(Put, Plan, 0, NO_KEY, Times(1)),
        of(Put, Segment, 0, INVALID, Times(1)),
        of(Put, Record, OPENED, AnswerLost, Times(1)),
        of(Put, Record, OPENED, INTERNAL, UntilKnown),
        of(Put, Record, OPENED, DENIED, Times(1)),
        of(Put, Output, 0, AnswerLost, Times(1)),
        of(Put, Output, 0, FULL, UntilKnown),
        of(Put, Output, 0, INVALID, ForEver).fails(&["PutObject", "/out/", "InvalidRequest"]),
        of(Put, Manifest, 0, AnswerLost, Times(1)),
        of(Put, Manifest, 0, INTERNAL, UntilKnown),
        of(Put, Consumed, 0, DENIED, Times(1)),
        of(Put, Success, 0, AnswerLost, Times(1)),
        of(Put, Success, 0, SLOW_DOWN, UntilKnown),
    ]
}

fn parts() -> Vec<Case> {
    vec![
        of(Create, Output, 0, NO_KEY, Times(1)),
        of(Create, Output, 0, Error(404, "NoSuchBucket"), Times(1)),
        of(Create, Output, 0, NO_UPLOAD, Times(1)),
        of(Create, Output, 0, INVALID, Times(1)),
        of(Create, Output, 0, InSuccess("InternalError"), Times(1)),
        of(Create, Output, 0, AnswerLost, Times(1)),
        of(Create, Output, 0, INTERNAL, UntilKnown),
        of(UploadPart, Output, 0, NO_UPLOAD, Times(1)),
        of(UploadPart, Output, 1, NO_UPLOAD, UntilKnown),
        of(UploadPart, Output, 1, NO_KEY, Times(1)),
        of(UploadPart, Output, 1, Bare(404), Times(1)),
        of(UploadPart, Output, 1, UploadEnded, Times(1)),
        of(UploadPart, Output, 1, DENIED, Times(1)),
        of(UploadPart, Output, 1, DENIED, UntilKnown),
        of(UploadPart, Output, 1, INTERNAL, Times(3)),
        of(UploadPart, Output, 1, INTERNAL, UntilKnown),
        of(UploadPart, Output, 0, SLOW_DOWN, Times(20)),
        of(UploadPart, Output, 1, AnswerLost, Times(1)),
        of(UploadPart, Output, 1, EXPIRED, UntilKnown),
        of(UploadPart, Output, 1, Error(400, "BadDigest"), Times(1)),
        of(UploadPart, Output, 1, FULL, UntilKnown),
        of(UploadPart, Output, 1, INVALID, Times(1)),
        of(UploadPart, Output, 1, INVALID, ForEver).fails(&["UploadPart", "/out/", "InvalidRequest"]),
    ]
}

fn completing() -> Vec<Case> {
    vec![
        of(Complete, Output, 0, NO_UPLOAD, Times(1)),
        of(Complete, Output, 0, NO_UPLOAD, UntilKnown),
        of(Complete, Output, 0, NO_UPLOAD, ForEver).fails(&[
            "CompleteMultipartUpload",
            "/out/",
            "NoSuchUpload",
        ]),
        of(Complete, Output, 0, UploadEnded, Times(1)),
        of(Complete, Output, 0, NO_KEY, Times(1)),
        of(Complete, Output, 0, Bare(404), Times(1)),
        of(Complete, Output, 0, Error(400, "InvalidPart"), Times(1)),
        of(Complete, Output, 0, Error(400, "InvalidPart"), UntilKnown),
        of(Complete, Output, 0, Error(400, "InvalidPart"), ForEver).fails(&[
            "CompleteMultipartUpload",
            "/out/",
            "InvalidPart",
        ]),
        of(Complete, Output, 0, Error(400, "EntityTooSmall"), Times(1)),
        of(Complete, Output, 0, INVALID, Times(1)),
        of(Complete, Output, 0, INVALID, ForEver).fails(&[
            "CompleteMultipartUpload",
            "/out/",
            "InvalidRequest",
        ]),
        of(Complete, Output, 0, InSuccess("InternalError"), Times(1)),
        of(Complete, Output, 0, InSuccess("InternalError"), UntilKnown),
        of(Complete, Output, 0, InSuccess("SlowDown"), Times(6)),
        of(Complete, Output, 0, INTERNAL, Times(3)),
        of(Complete, Output, 0, INTERNAL, UntilKnown),
        of(Complete, Output, 0, SLOW_DOWN, UntilKnown),
        of(Complete, Output, 0, DENIED, UntilKnown),
        of(Complete, Output, 0, Error(409, "OperationAborted"), Times(1)),
        of(Complete, Output, 0, AnswerLost, Times(1)),
        of(Complete, Output, 0, AnswerCut, Times(1)),
    ]
}

fn ending() -> Vec<Case> {
    vec![
        of(ListParts, Output, 0, INTERNAL, Times(3)).behind(UNKNOWN),
        of(ListParts, Output, 0, NO_UPLOAD, Times(1)).behind(UNKNOWN),
        of(ListParts, Output, 0, DENIED, UntilKnown).behind(UNKNOWN),
        of(ListParts, Output, 0, INVALID, Times(1)).behind(UNKNOWN),
        of(ListParts, Output, 0, INTERNAL, UntilKnown)
            .behind(RESTART)
            .only(Shape::Tails),
        of(Abort, Output, 0, INTERNAL, Times(3)),
        of(Abort, Output, 0, DENIED, UntilKnown).behind(UNLEARNED),
        of(Abort, Output, 0, NO_KEY, Times(1)).behind(UNLEARNED),
        of(Abort, Output, 0, AnswerLost, Times(1)).behind(UNLEARNED),
        of(ListUploads, Output, 0, SLOW_DOWN, Times(3)).behind(UNLEARNED),
        of(ListUploads, Output, 0, INVALID, Times(1)).behind(UNLEARNED),
        of(ListUploads, Output, 0, DENIED, UntilKnown).behind(UNLEARNED),
    ]
}

fn deleting() -> Vec<Case> {
    vec![
        of(Delete, Tail, 1, INTERNAL, UntilKnown).only(Shape::Tails),
        of(Delete, Tail, 1, DENIED, Times(1)).only(Shape::Tails),
        of(Delete, Tail, 1, NO_KEY, Times(1)).only(Shape::Tails),
        of(Delete, Tail, 1, InSuccess("DeleteResult"), Times(1)).only(Shape::Tails),
        of(Delete, Tail, 1, AnswerLost, Times(1)).only(Shape::Tails),
        of(Delete, Tail, 1, INVALID, Times(1)).only(Shape::Tails),
        of(Delete, Tail, 1, INVALID, Times(2)).only(Shape::Tails),
        of(Delete, Ledger, 0, INTERNAL, UntilKnown),
        of(Delete, Ledger, 0, DENIED, Times(1)),
        of(Delete, Ledger, 0, NO_KEY, Times(1)),
        of(Delete, Ledger, 0, InSuccess("DeleteResult"), Times(1)),
        of(Delete, Ledger, 0, AnswerLost, Times(1)),
        of(Delete, Ledger, 0, INVALID, Times(1)),
        of(Delete, Ledger, 0, INVALID, Times(2)),
        of(Delete, Record, 0, INTERNAL, UntilKnown),
        of(Delete, Record, 0, DENIED, Times(1)),
        of(Delete, Record, 0, AnswerLost, Times(1)),
    ]
}
