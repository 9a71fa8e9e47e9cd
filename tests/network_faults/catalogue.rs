//! Which faults are played: a choice in the tests of every change, all of them at night.

use crate::fault::Fault;
use crate::request::Moment;
use crate::scenario::{Lasts, Scenario};
use crate::shape::Shape;

use Fault::*;
use Moment::*;
use Shape::{Large, LargeParts, Tails};

/// Those that `FAULTS` asks for.
pub fn chosen() -> Vec<Scenario> {
    let mut chosen = match std::env::var("FAULTS") {
        Err(_) => of_every_change(),
        Ok(all) if all == "all" => every_one(),
        Ok(part) => {
            let mut named = every_one();
            named.retain(|scenario| scenario.name().contains(&part));
            named
        }
    };
    // Those with the longest deadlines first, so that the last ones to end are short.
    chosen.sort_by_key(|scenario| (scenario.lasts == Lasts::UntilKnown, scenario.moment));
    chosen
}

/// What a worker would fill its memory with, if it went on meanwhile: one that sends, and one that reads.
const OF_MUCH: [(Shape, Fault, Moment); 2] = [(Large, BlackHole, Part), (Large, StallReceiving, Reading)];

fn known((shape, fault, moment): (Shape, Fault, Moment)) -> Scenario {
    Scenario {
        shape,
        fault,
        moment,
        lasts: Lasts::UntilKnown,
    }
}

/// Each fault once or twice, and the black hole, which is the hang, everywhere.
fn of_every_change() -> Vec<Scenario> {
    let given_up = [
        (Tails, BlackHole, Complete),
        (LargeParts, Refused, Part),
        (Tails, DiskFull, Part),
        (Tails, KeysChanged, Tail),
        (LargeParts, KeysChanged, Part),
    ];
    let given_up = given_up.map(|(shape, fault, moment)| Scenario {
        lasts: Lasts::UntilGivenUp,
        ..known((shape, fault, moment))
    });
    let once = [
        (Tails, NoAnswer, Complete),
        (LargeParts, NoAnswer, Opening),
        (LargeParts, NoAnswer, Part),
        (Tails, StallSending, Tail),
        (LargeParts, StallSending, Part),
        (Tails, StallReceiving, Reading),
        (LargeParts, Reset, Part),
        (Tails, ResetAnswer, Complete),
        (LargeParts, ResetAnswer, Body),
        (Tails, CutOff, Listing),
        (LargeParts, CutOff, Reading),
        (LargeParts, TrickleSending, Part),
        (LargeParts, TrickleReceiving, Reading),
        (Tails, Latency, Body),
        (Tails, Refused, Tail),
        (LargeParts, Refused, Complete),
        (Tails, NameGone, Reading),
        (Tails, ServerKilled, Part),
        (LargeParts, ServerKilled, Complete),
        (Tails, ClockBehind, Part),
        (LargeParts, ClockAhead, Reading),
    ];
    let everywhere = [Listing, Reading, Part, Complete, Body];
    let holes = everywhere
        .into_iter()
        .flat_map(|moment| [Tails, LargeParts].map(|shape| (shape, BlackHole, moment)));
    let known = once.into_iter().chain(holes).chain(OF_MUCH).map(known);
    known.chain(given_up).collect()
}

const FAULTS: [Fault; 17] = [
    BlackHole,
    NoAnswer,
    StallSending,
    StallReceiving,
    Reset,
    ResetAnswer,
    CutOff,
    TrickleSending,
    TrickleReceiving,
    Latency,
    Refused,
    NameGone,
    DiskFull,
    ServerKilled,
    KeysChanged,
    ClockBehind,
    ClockAhead,
];
const MOMENTS: [Moment; 9] = [
    Listing, Reading, Opening, Part, Complete, Tail, Body, Manifest, Deleting,
];

/// Every fault at every moment in the first two jobs, where there is such a thing, and those of the network for so
/// long that workers give up.
fn every_one() -> Vec<Scenario> {
    let mut scenarios: Vec<Scenario> = OF_MUCH.map(known).to_vec();
    for shape in [Tails, LargeParts] {
        for fault in FAULTS {
            for moment in MOMENTS {
                for lasts in [Lasts::UntilKnown, Lasts::UntilGivenUp] {
                    let scenario = Scenario {
                        shape,
                        fault,
                        moment,
                        lasts,
                    };
                    if is_possible(scenario) {
                        scenarios.push(scenario);
                    }
                }
            }
        }
    }
    scenarios
}

fn is_possible(scenario: Scenario) -> bool {
    let Scenario {
        fault, moment, lasts, ..
    } = scenario;
    let has_body = !matches!(moment, Listing | Reading | Opening);
    let possible = match fault {
        StallSending | TrickleSending => has_body,
        // A full disk can be read from.
        DiskFull => matches!(moment, Part | Tail | Body),
        _ => true,
    };
    let long = matches!(
        fault,
        BlackHole
            | NoAnswer
            | StallReceiving
            | Reset
            | Refused
            | NameGone
            | ServerKilled
            | KeysChanged
            | ClockBehind
            | ClockAhead
            | DiskFull
    );
    possible && (lasts == Lasts::UntilKnown || long)
}
