//! Faults on purpose: how often which, and which request gets one.

use std::str::FromStr;

use http::StatusCode;

use super::chance::Chance;

/// A fault with its share of the requests, as `KIND:SHARE`: `429:0.01`, `reset:0.005`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FaultShare {
    /// What goes wrong.
    pub fault: Fault,
    /// The share of requests that it befalls, from 0 to 1.
    pub share: f64,
}

/// What goes wrong with an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is refused with this status, 400 or more. 429 and 503 say when to try again.
    Status(StatusCode),
    /// The connection breaks in the middle of it.
    Reset,
    /// It stops in the middle, and goes on much later.
    Stall,
    /// It ends in the middle as if that were its end: no finish reason, no `[DONE]`.
    Cut,
}

/// Why a fault can't be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a fault is KIND:SHARE, with a status from 400 to 599, `reset`, `stall` or `cut`, and a share from 0 to 1: not `{0}`"
)]
pub struct FaultError(String);

/// Returns the fault that befalls the request with this digest, the same each time it is asked.
pub(super) fn choose(seed: u64, faults: &[FaultShare], request: &[u8]) -> Option<Fault> {
    let at = f64::from(Chance::new(seed, "fault", request).bits()) / (f64::from(u32::MAX) + 1.0);
    let mut end = 0.0;
    faults.iter().find_map(|FaultShare { fault, share }| {
        end += share;
        (at < end).then_some(*fault)
    })
}

// === impl FaultShare ===

impl FromStr for FaultShare {
    type Err = FaultError;

    fn from_str(text: &str) -> Result<Self, FaultError> {
        let parse = || {
            let (kind, share) = text.split_once(':')?;
            let fault = match kind {
                "reset" => Fault::Reset,
                "stall" => Fault::Stall,
                "cut" => Fault::Cut,
                status => {
                    let status: StatusCode = status.parse().ok()?;
                    let is_error = status.is_client_error() || status.is_server_error();
                    Fault::Status(Some(status).filter(|_| is_error)?)
                }
            };
            let share = share.parse().ok().filter(|share| (0.0..=1.0).contains(share))?;
            Some(Self { fault, share })
        };
        parse().ok_or_else(|| FaultError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_parsed() {
        for (text, fault, share) in [
            ("429:0.01", Fault::Status(StatusCode::TOO_MANY_REQUESTS), 0.01),
            ("500:1", Fault::Status(StatusCode::INTERNAL_SERVER_ERROR), 1.0),
            ("reset:0.5", Fault::Reset, 0.5),
            ("stall:0", Fault::Stall, 0.0),
            ("cut:0.25", Fault::Cut, 0.25),
        ] {
            assert_eq!(text.parse(), Ok(FaultShare { fault, share }), "{text}");
        }
        for text in
            ["", "429", "200:0.1", "600:0.1", "reset:2", "reset:-1", "reset:NaN", "what:0.1"]
        {
            assert_eq!(text.parse::<FaultShare>(), Err(FaultError(text.into())), "{text}");
        }
    }

    #[test]
    fn each_fault_gets_its_share_and_a_request_always_the_same() {
        let faults = [
            FaultShare { fault: Fault::Reset, share: 0.25 },
            FaultShare { fault: Fault::Cut, share: 0.5 },
        ];
        let chosen = |request: u32| choose(7, &faults, &request.to_le_bytes());
        let count = |fault| (0..4_000).filter(|request| chosen(*request) == fault).count();
        for (fault, expected) in
            [(Some(Fault::Reset), 1_000), (Some(Fault::Cut), 2_000), (None, 1_000)]
        {
            assert!(count(fault).abs_diff(expected) < 120, "{fault:?}: {}", count(fault));
        }
        assert_eq!(choose(7, &[], b"x"), None);
        let always = [FaultShare { fault: Fault::Stall, share: 1.0 }];
        assert!((0..100_u32).all(|request| choose(1, &always, &request.to_le_bytes()).is_some()));
    }
}
