//! What goes wrong, where, and how often: plain data.

use std::fmt;

use crate::operation::{Of, Operation, Verb};

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Refused in the store's own words.
    Error(u16, &'static str),
    /// Refused without a word.
    Bare(u16),
    /// The page of something on the way that is not the store.
    Page(u16),
    /// An error after the head of a success.
    InSuccess(&'static str),
    /// It takes effect, and nobody is told.
    AnswerLost,
    /// Half of the answer comes.
    AnswerCut,
    /// A rule of the bucket has ended the upload just before.
    UploadEnded,
}

impl Fault {
    /// What a message that is due to it has in it.
    pub fn is_told_as(self) -> String {
        match self {
            Self::Error(_, code) | Self::InSuccess(code) => code.to_owned(),
            Self::Bare(status) | Self::Page(status) => format!("HTTP {status}"),
            Self::AnswerLost | Self::AnswerCut | Self::UploadEnded => String::new(),
        }
    }
}

/// On which requests a fault falls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum On {
    /// All but the probe's.
    Any,
    /// This verb, on whatever but the probe's objects.
    Verb(Verb),
    Of(Verb, Of),
}

impl On {
    pub fn matches(self, operation: &Operation) -> bool {
        match self {
            Self::Any => operation.of != Of::Probe,
            Self::Verb(verb) => operation.verb == verb && operation.of != Of::Probe,
            Self::Of(verb, of) => (operation.verb, operation.of) == (verb, of),
        }
    }

    /// `None`: every one.
    pub fn verb(self) -> Option<Verb> {
        match self {
            Self::Any => None,
            Self::Verb(verb) | Self::Of(verb, _) => Some(verb),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Often {
    Times(usize),
    /// Until a worker has ended and the job's status says why; healed then.
    UntilKnown,
    /// Until the job has ended; healed then.
    ForEver,
}

#[derive(Debug, Clone, Copy)]
pub struct Rule {
    pub on: On,
    /// Requests that pass before the first fault.
    pub after: usize,
    pub fault: Fault,
    pub often: Often,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Error(status, code) => write!(f, "{status} `{code}`"),
            Self::Bare(status) => write!(f, "{status}, empty"),
            Self::Page(status) => write!(f, "{status}, a page of HTML"),
            Self::InSuccess(code) => write!(f, "200 with `{code}`"),
            Self::AnswerLost => f.write_str("done, the answer lost"),
            Self::AnswerCut => f.write_str("the answer cut in half"),
            Self::UploadEnded => f.write_str("the upload was ended by a rule"),
        }
    }
}

impl fmt::Display for On {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("every operation"),
            Self::Verb(verb) => write!(f, "{verb}"),
            Self::Of(verb, of) => write!(f, "{verb}: {of}"),
        }
    }
}

impl fmt::Display for Often {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Times(1) => f.write_str("once"),
            Self::Times(times) => write!(f, "{times} times"),
            Self::UntilKnown => f.write_str("until known"),
            Self::ForEver => f.write_str("for ever"),
        }
    }
}
