//! Moves events to another time axis and gives them other numbers.

use crate::clock::Nanos;
use crate::trace::record::{Event, ExchangeId, Gap, Omission};

/// How the events of one recording are changed to stand beside those of others.
#[derive(Clone, Debug)]
pub(crate) struct Relabel {
    /// Added to every time, in nanoseconds.
    pub(crate) later_ns: u64,
    /// Place of the recording among all that are merged, and how many these are: connections take turns.
    pub(crate) turn: (u64, u64),
    /// The new index of each upstream.
    pub(crate) upstreams: Vec<u32>,
}

// === impl Relabel ===

impl Relabel {
    /// Changes an event; `id` is the new number of its exchange.
    pub(crate) fn apply(&self, event: &mut Event, id: Option<ExchangeId>) {
        let number = |exchange: &mut ExchangeId| *exchange = id.unwrap_or(*exchange);
        event.unpack();
        match event {
            Event::Request(head) => {
                number(&mut head.exchange);
                self.shift(&mut head.at);
                head.connection = self.connection(head.connection);
                let upstream = usize::try_from(head.upstream).ok();
                let known = upstream.and_then(|idx| self.upstreams.get(idx));
                head.upstream = known.copied().unwrap_or(head.upstream);
            }
            Event::Link(link) => {
                number(&mut link.exchange);
                self.shift(&mut link.at);
                link.connection = self.connection(link.connection);
            }
            Event::Interim(interim) => {
                number(&mut interim.exchange);
                self.shift(&mut interim.at);
            }
            Event::Response(head) => {
                number(&mut head.exchange);
                self.shift(&mut head.at);
            }
            Event::Frame(frame) => {
                number(&mut frame.exchange);
                self.shift(&mut frame.at);
                self.shift(&mut frame.accepted);
            }
            Event::Bare(frame) => {
                number(&mut frame.exchange);
                self.shift(&mut frame.at);
                self.shift(&mut frame.accepted);
            }
            Event::Trailers(trailers) => {
                number(&mut trailers.exchange);
                self.shift(&mut trailers.at);
            }
            Event::End(end) => {
                number(&mut end.exchange);
                self.shift(&mut end.at);
            }
            Event::Prompt(prompt) => {
                number(&mut prompt.exchange);
                self.shift(&mut prompt.at);
            }
            Event::Gap(Gap { from, until, .. }) | Event::Omission(Omission { from, until, .. }) => {
                self.shift(from);
                self.shift(until);
            }
            // Heads are unpacked above.
            Event::Packed(_) => {}
        }
    }

    /// Returns `at` on the new time axis.
    pub(crate) fn at(&self, at: Nanos) -> Nanos {
        Nanos(at.0.saturating_add(self.later_ns))
    }

    fn shift(&self, at: &mut Nanos) {
        *at = self.at(*at);
    }

    /// Numbers of connections take turns between the recordings: unique, and known without reading ahead.
    fn connection(&self, number: u64) -> u64 {
        let (turn, of) = self.turn;
        number.saturating_sub(1).saturating_mul(of).saturating_add(turn + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::golden_events::{bared, hashed};

    /// Also what an exchange says of its prompt, and frames without their bytes.
    #[test]
    fn every_event_of_an_exchange_gets_its_new_number_and_time() {
        let relabel = Relabel { later_ns: 5_000, turn: (0, 1), upstreams: vec![0, 1] };
        for before in bared().into_iter().chain(hashed()) {
            let mut event = before.clone();
            relabel.apply(&mut event, Some(ExchangeId(9)));
            assert_eq!(event.exchange(), before.exchange().map(|_| ExchangeId(9)), "{event:?}");
            assert_eq!(event.at().0, before.at().0 + 5_000, "{event:?}");
        }
    }
}
