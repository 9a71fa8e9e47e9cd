//! What goes wrong, and how it ends.

use serde_json::json;

use crate::gate::Place;
use crate::host::Host;
use crate::request::Moment;
use crate::server::Server;
use crate::site::Site;
use crate::toxiproxy::Stream;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// What is sent arrives nowhere.
    BlackHole,
    /// What is sent arrives, and nothing comes back.
    NoAnswer,
    /// Half of a request goes through.
    StallSending,
    /// A piece of an answer goes through.
    StallReceiving,
    /// Before the server sees the request.
    Reset,
    /// Before the worker sees the answer.
    ResetAnswer,
    /// Closed in the middle of an answer.
    CutOff,
    TrickleSending,
    TrickleReceiving,
    Latency,
    Refused,
    NameGone,
    DiskFull,
    ServerKilled,
    /// Others are valid, and are in the file that they are read from only when the fault ends.
    KeysChanged,
    ClockBehind,
    ClockAhead,
}

const TWENTY_MINUTES: i64 = 20 * 60;

impl Fault {
    /// As the table has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::BlackHole => "black hole",
            Self::NoAnswer => "answers vanish",
            Self::StallSending => "stall in a request",
            Self::StallReceiving => "stall in an answer",
            Self::Reset => "reset before the request",
            Self::ResetAnswer => "reset before the answer",
            Self::CutOff => "answer cut off",
            Self::TrickleSending => "1 byte/s to the store",
            Self::TrickleReceiving => "1 byte/s from the store",
            Self::Latency => "latency 5 s",
            Self::Refused => "connection refused",
            Self::NameGone => "name gone",
            Self::DiskFull => "disk full",
            Self::ServerKilled => "server killed",
            Self::KeysChanged => "keys changed",
            Self::ClockBehind => "clock 20 min behind",
            Self::ClockAhead => "clock 20 min ahead",
        }
    }

    pub fn place(self) -> Place {
        match self {
            Self::StallSending => Place::MiddleOfRequest,
            Self::StallReceiving => Place::MiddleOfAnswer,
            _ => Place::Request,
        }
    }

    /// The kinds of failed attempts that it makes, and nothing else that goes on meanwhile.
    pub fn is_known_by(self) -> &'static [&'static str] {
        match self {
            Self::BlackHole
            | Self::NoAnswer
            | Self::StallSending
            | Self::StallReceiving
            | Self::TrickleSending
            | Self::TrickleReceiving => &["Timeout"],
            Self::CutOff => &["Unreachable", "BadAnswer"],
            Self::Reset | Self::ResetAnswer | Self::Refused | Self::NameGone | Self::ServerKilled => {
                &["Unreachable"]
            }
            Self::DiskFull => &["StorageFull"],
            // A HEAD is refused without a word.
            Self::KeysChanged | Self::ClockBehind | Self::ClockAhead => &["CredentialsInvalid", "Denied"],
            // Within every deadline: the worker is slow, and nothing is lost.
            Self::Latency => &[],
        }
    }

    pub async fn server(self) -> Server {
        match self {
            Self::DiskFull => Server::in_memory().await,
            Self::ServerKilled | Self::KeysChanged => Server::mortal().await,
            _ => Server::shared().await,
        }
    }

    pub fn host(self) -> Host {
        match self {
            Self::NameGone => Host::with_names(),
            Self::ClockBehind | Self::ClockAhead => Host::with_clock(),
            _ => Host::Plain,
        }
    }

    pub async fn begin(self, site: &Site, moment: Moment) {
        let Site { way, gate, host, .. } = site;
        // One byte, then a second of nothing.
        let slice = json!({"average_size": 1, "size_variation": 0, "delay": 1_000_000});
        match self {
            Self::BlackHole => {
                way.poison("timeout", Stream::Requests, json!({"timeout": 0}))
                    .await;
            }
            Self::NoAnswer => {
                way.poison("timeout", Stream::Answers, json!({"timeout": 0}))
                    .await;
            }
            Self::StallSending => gate.hold_up_requests(),
            Self::StallReceiving => gate.hold_up_answers(),
            Self::Reset => {
                way.poison("reset_peer", Stream::Requests, json!({"timeout": 0}))
                    .await;
            }
            Self::ResetAnswer => {
                way.poison("reset_peer", Stream::Answers, json!({"timeout": 0}))
                    .await;
            }
            Self::CutOff => {
                let bytes = if moment == Moment::Reading { 2000 } else { 50 };
                way.poison("limit_data", Stream::Answers, json!({"bytes": bytes}))
                    .await;
            }
            Self::TrickleSending => {
                way.poison("slicer", Stream::Requests, slice).await;
            }
            Self::TrickleReceiving => {
                way.poison("slicer", Stream::Answers, slice).await;
            }
            Self::Latency => {
                way.poison("latency", Stream::Answers, json!({"latency": 5000}))
                    .await;
            }
            Self::Refused => gate.refuse().await,
            Self::NameGone => {
                host.forget_the_name();
                // What is connected already needs no name.
                gate.refuse().await;
                gate.accept().await;
            }
            Self::DiskFull => site.server.fill().await,
            Self::ServerKilled => site.server.kill().await,
            Self::KeysChanged => site.server.change_keys().await,
            Self::ClockBehind => host.set_clock_off_by(-TWENTY_MINUTES),
            Self::ClockAhead => host.set_clock_off_by(TWENTY_MINUTES),
        }
    }

    pub async fn end(self, site: &Site) {
        match self {
            Self::BlackHole
            | Self::NoAnswer
            | Self::Reset
            | Self::ResetAnswer
            | Self::CutOff
            | Self::TrickleSending
            | Self::TrickleReceiving
            | Self::Latency => site.way.clear().await,
            Self::StallSending | Self::StallReceiving => site.gate.let_through(),
            Self::Refused => site.gate.accept().await,
            Self::NameGone => drop(site.host.name(site.gate.address.ip())),
            Self::DiskFull => site.server.make_room().await,
            Self::ServerKilled => site.server.start_again().await,
            Self::KeysChanged => site.hand_out_keys(),
            Self::ClockBehind | Self::ClockAhead => site.host.set_clock_off_by(0),
        }
    }
}
