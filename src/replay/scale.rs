//! Scaling of a load: what is replayed from what was recorded, before it is planned. Pure, and the same for ever.
//!
//! | transform | what changes | what it does to prefix caches |
//! |---|---|---|
//! | [`Scale::spread_ties`] | starts that are equal, since a clock was coarse | nothing |
//! | [`Scale::idle_cap`] | gaps between starts, and think times, that are longer | what was forgotten in a long gap may still be there |
//! | [`Scale::sample_ppm`] | whole sessions are left out | hits within sessions stay; fewer between sessions, less pressure |
//! | [`Scale::clones`] | whole sessions are played more than once | each copy has a prefix of its own ([`salted`]): its sessions hit each other's as the recorded ones did, never those of another copy |
//!
//! They are applied in this order. Dividing time by a speed comes after, in the plan, and so do rounds.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Nanos;
use crate::replay::known::Known;
use crate::replay::session::Turn;
use crate::replay::splice;

/// How a load is scaled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scale {
    /// The share of sessions that is kept, in parts per million.
    pub sample_ppm: u32,
    /// How often each session is played, at least once.
    pub clones: u32,
    /// A copy of a session starts up to so much later than the recorded one.
    pub clone_shift: Duration,
    /// Longest time from one start to the next, and longest think time.
    pub idle_cap: Option<Duration>,
    /// Equal starts are spread evenly over this time, or as much of it as there is before the next one.
    pub spread_ties: Option<Duration>,
    /// Seed of everything random.
    pub seed: u64,
}

/// Why a load can't be scaled.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum ScaleError {
    /// No copy at all.
    #[error("each session can't be played 0 times: 1 is as recorded, 2 adds a copy of each")]
    NoClones,
    /// The share keeps no session.
    #[error(
        "there is nothing to replay: a share of {share} keeps none of the {sessions} sessions; take a larger share or another \
         seed"
    )]
    NothingKept {
        /// The share.
        share: f64,
        /// Sessions that there were.
        sessions: u32,
    },
}

/// Parts in a million.
pub const MILLION: u32 = 1_000_000;

/// Scales what was recorded; `known` is in the order of the starts, as is what is returned. Memory: each copy of an exchange
/// takes as much as the exchange.
///
/// # Errors
/// Nothing would be left.
pub fn scale(mut known: Vec<Known>, scale: &Scale) -> Result<Vec<Known>, ScaleError> {
    if scale.clones == 0 {
        return Err(ScaleError::NoClones);
    }
    let sessions = known.iter().map(|known| known.turn.session).max().map_or(0, |last| last + 1);
    if let Some(within) = scale.spread_ties {
        spread(&mut known, Nanos::from(within).0);
    }
    if let Some(cap) = scale.idle_cap {
        cap_gaps(&mut known, Nanos::from(cap).0);
    }
    if scale.sample_ppm < MILLION && !known.is_empty() {
        known.retain(|known| scale.keeps(known));
        if known.is_empty() {
            let share = f64::from(scale.sample_ppm) / f64::from(MILLION);
            return Err(ScaleError::NothingKept { share, sessions });
        }
    }
    Ok(if scale.clones > 1 { scale.copied(known, sessions) } else { known })
}

/// Returns a request body with a short text in front of its first text, which is the same for all requests of a copy and
/// another one for every copy: the system prompt, the first message of a chat, the first prompt or input. None where there is
/// no such text.
#[must_use]
pub fn salted(body: &[u8], copy: u32, seed: u64) -> Option<Vec<u8>> {
    let (path, json) = first_text(body)?;
    let mut hasher = blake3::Hasher::new_derive_key("reenact 2026 prefix of a copy");
    hasher.update(&seed.to_le_bytes());
    hasher.update(&copy.to_le_bytes());
    let salt = &hasher.finalize().to_hex()[..12];
    // Right after the opening quote; hexadecimal digits need no escapes.
    let value = format!("\"[{salt}] {}", std::str::from_utf8(json.get(1..)?).ok()?);
    splice::set(body, &path, &value)
}

/// Finds the first text of a request: where it is, and its JSON.
fn first_text(body: &[u8]) -> Option<(splice::Path, &[u8])> {
    let string = |path: &str| {
        let path: splice::Path = path.parse().ok()?;
        let json = splice::find(body, &path)?;
        (json.first() == Some(&b'"')).then_some((path, json))
    };
    let before = ["system", "instructions"];
    let plain = ["prompt", "prompt.0", "input", "input.0", "inputs"];
    let within = |list: &str| {
        // A body with more messages without text than this is no chat.
        (0..16).find_map(|message| {
            string(&format!("{list}.{message}.content")).or_else(|| {
                (0..16).find_map(|part| string(&format!("{list}.{message}.content.{part}.text")))
            })
        })
    };
    before
        .iter()
        .find_map(|path| string(path))
        .or_else(|| within("messages"))
        .or_else(|| plain.iter().find_map(|path| string(path)))
        .or_else(|| within("input"))
}

/// Spreads starts that are equal over `within`, as far as the next start allows, in the order in which they were recorded.
fn spread(known: &mut [Known], within: u64) {
    let mut rest = known;
    while let Some(first) = rest.first().map(|known| known.start.0) {
        let ties = rest.iter().take_while(|known| known.start.0 == first).count();
        let (tied, later) = rest.split_at_mut(ties);
        let room = later.first().map_or(within, |next| within.min(next.start.0 - first));
        for (known, place) in tied.iter_mut().zip(0_u64..) {
            let share = u128::from(room) * u128::from(place) / ties as u128;
            known.start.0 += u64::try_from(share).unwrap_or(room);
        }
        rest = later;
    }
}

/// Cuts every gap between starts to `cap`, and every think time.
fn cap_gaps(known: &mut [Known], cap: u64) {
    let (mut before, mut cut) = (known.first().map_or(0, |known| known.start.0), 0);
    for known in known {
        cut += (known.start.0 - before).saturating_sub(cap);
        before = known.start.0;
        known.start.0 -= cut;
        known.turn.think.0 = known.turn.think.0.min(cap);
    }
}

// === impl Scale ===

impl Default for Scale {
    /// Changes nothing.
    fn default() -> Self {
        Self {
            sample_ppm: MILLION,
            clones: 1,
            clone_shift: Duration::ZERO,
            idle_cap: None,
            spread_ties: None,
            seed: 0,
        }
    }
}

impl Scale {
    /// Returns whether the session of an exchange is among those that are kept. A smaller share is a part of a larger one.
    fn keeps(&self, known: &Known) -> bool {
        let mut hasher = blake3::Hasher::new_derive_key("reenact 2026 sample of a replay");
        hasher.update(&self.seed.to_le_bytes());
        match &known.turn.name {
            Some(name) => hasher.update(name.as_bytes()),
            None => hasher.update(&known.id.0.to_le_bytes()),
        };
        drawn(&hasher, u64::from(MILLION)) < u64::from(self.sample_ppm)
    }

    /// Returns the sessions and their copies.
    fn copied(&self, known: Vec<Known>, sessions: u32) -> Vec<Known> {
        let mut all = Vec::with_capacity(known.len() * self.clones as usize);
        for copy in 1..self.clones {
            all.extend(known.iter().map(|known| self.copy(known, copy, sessions)));
        }
        all.extend(known.into_iter().map(|known| Known { copies: self.clones, ..known }));
        all.sort_by_key(|known| (known.start, known.copy, known.id));
        all
    }

    fn copy(&self, known: &Known, copy: u32, sessions: u32) -> Known {
        let name = known.turn.name.as_ref().map(|name| Arc::from(format!("{name}~{copy}")));
        let session = copy.saturating_mul(sessions).saturating_add(known.turn.session);
        Known {
            start: Nanos(known.start.0.saturating_add(self.shift(known.turn.session, copy))),
            turn: Turn { session, name, ..known.turn.clone() },
            copy,
            copies: self.clones,
            ..known.clone()
        }
    }

    /// Returns how much later a copy of a session starts.
    fn shift(&self, session: u32, copy: u32) -> u64 {
        let mut hasher = blake3::Hasher::new_derive_key("reenact 2026 start of a copy");
        hasher.update(&self.seed.to_le_bytes());
        hasher.update(&session.to_le_bytes());
        hasher.update(&copy.to_le_bytes());
        drawn(&hasher, Nanos::from(self.clone_shift).0.saturating_add(1))
    }
}

/// Returns a number below `bound` that follows from what was hashed.
fn drawn(hasher: &blake3::Hasher, bound: u64) -> u64 {
    let mut front = [0; 8];
    front.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    let place = (u128::from(u64::from_le_bytes(front)) * u128::from(bound)) >> 64;
    u64::try_from(place).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::replay::known::known;

    const MS: u64 = 1_000_000;

    /// Makes exchanges that start at these milliseconds, each in this session.
    fn recorded(starts: &[(u64, u32)]) -> Vec<Known> {
        let mut turns = BTreeMap::new();
        (1..)
            .zip(starts)
            .map(|(id, (start, session))| {
                let turn = turns.entry(*session).or_insert(0);
                *turn += 1;
                let turn = Turn {
                    session: *session,
                    name: Some(format!("s{session}").into()),
                    turn: *turn,
                    think: Nanos(30 * MS),
                };
                Known { turn, ..known(id, start * MS) }
            })
            .collect()
    }

    /// Checks what is left, as `id@start`, and `~copy` for copies.
    fn check(starts: &[(u64, u32)], options: &Scale, expected: &str) {
        let scaled = scale(recorded(starts), options).unwrap();
        let seen: Vec<String> = scaled
            .iter()
            .map(|known| {
                let copy = (known.copy > 0).then(|| format!("~{}", known.copy));
                let start = known.start.0 as f64 / 1e6;
                format!("{}{}@{start}", known.id.0, copy.unwrap_or_default())
            })
            .collect();
        assert_eq!(seen.join(" "), expected);
    }

    #[test]
    fn nothing_changes_unasked() {
        let starts = [(3, 0), (3, 1), (90, 0)];
        assert_eq!(scale(recorded(&starts), &Scale::default()).unwrap(), recorded(&starts));
    }

    #[test]
    fn ties_are_spread_evenly_and_never_beyond_the_next_start() {
        let spread =
            |ms| Scale { spread_ties: Some(Duration::from_millis(ms)), ..Scale::default() };
        let starts = [(0, 0), (0, 1), (0, 2), (0, 3), (100, 4), (100, 5), (108, 6)];
        check(&starts, &spread(40), "1@0 2@10 3@20 4@30 5@100 6@104 7@108");
        check(&starts, &spread(0), "1@0 2@0 3@0 4@0 5@100 6@100 7@108");
        check(&starts, &spread(1_000), "1@0 2@25 3@50 4@75 5@100 6@104 7@108");
    }

    #[test]
    fn longer_gaps_are_cut() {
        let cap = |ms| Scale { idle_cap: Some(Duration::from_millis(ms)), ..Scale::default() };
        let starts = [(5, 0), (25, 1), (1_025, 2), (1_030, 3), (9_030, 4)];
        check(&starts, &cap(20), "1@5 2@25 3@45 4@50 5@70");
        let scaled = scale(recorded(&starts), &cap(20)).unwrap();
        assert!(scaled.iter().all(|known| known.turn.think == Nanos(20 * MS)));
        assert!(scaled.iter().zip(recorded(&starts)).all(|(seen, known)| seen.at == known.at));
        check(&starts, &cap(10_000), "1@5 2@25 3@1025 4@1030 5@9030");
    }

    #[test]
    fn copies_are_whole_sessions_that_start_later_together() {
        let twice =
            Scale { clones: 2, clone_shift: Duration::from_millis(500), ..Scale::default() };
        let scaled = scale(recorded(&[(0, 0), (10, 1), (20, 0)]), &twice).unwrap();
        let at = |id, copy| {
            let found = scaled.iter().find(|known| (known.id.0, known.copy) == (id, copy));
            found.unwrap().start.0
        };
        assert_eq!(scaled.len(), 6);
        let (first, second) = (at(1, 1), at(2, 1) - 10 * MS);
        assert_eq!(at(3, 1), first + 20 * MS);
        assert!(first <= 500 * MS && second <= 500 * MS && first != second);
        let copy = scaled.iter().find(|known| (known.id.0, known.copy) == (3, 1)).unwrap();
        assert_eq!((copy.turn.name.as_deref(), copy.turn.session), (Some("s0~1"), 2));
        assert_eq!((copy.round(0), copy.round(2), scaled[0].round(2)), (1, 5, 4));
        check(
            &[(0, 0), (10, 1)],
            &Scale { clones: 3, ..Scale::default() },
            "1@0 1~1@0 1~2@0 2@10 2~1@10 2~2@10",
        );
    }

    #[test]
    fn a_share_of_the_sessions_is_kept() {
        let starts: Vec<(u64, u32)> = (0..4_000).map(|n| (n, u32::try_from(n).unwrap())).collect();
        for (sample_ppm, seed) in [(700_000, 4), (100_000, 5)] {
            let kept = scale(recorded(&starts), &Scale { sample_ppm, seed, ..Scale::default() });
            let share = kept.unwrap().len() as f64 / 4_000.0;
            assert!((share - f64::from(sample_ppm) / 1e6).abs() < 0.02, "{share}");
        }
    }

    #[test]
    fn what_would_leave_nothing_is_refused() {
        let none = scale(recorded(&[(0, 0)]), &Scale { clones: 0, ..Scale::default() });
        assert_eq!(none.unwrap_err(), ScaleError::NoClones);
        let error = scale(recorded(&[(0, 0)]), &Scale { sample_ppm: 0, ..Scale::default() });
        assert_eq!(error.unwrap_err(), ScaleError::NothingKept { share: 0.0, sessions: 1 });
        scale(Vec::new(), &Scale { sample_ppm: 1, ..Scale::default() }).unwrap();
    }

    #[test]
    fn a_prefix_goes_in_front_of_the_first_text() {
        let salt = |body: &str, copy| {
            salted(body.as_bytes(), copy, 7).map(|bytes| String::from_utf8(bytes).unwrap())
        };
        let plain = salt(r#"{"prompt":"x"}"#, 1).unwrap();
        let prefix = plain.strip_prefix(r#"{"prompt":""#).unwrap();
        let prefix = prefix.strip_suffix(r#"x"}"#).unwrap();
        assert_eq!(prefix.len(), 15);
        for (before, text, after) in [
            (
                r#"{"messages": [{"role":"system", "content":""#,
                r#"\"q\""#,
                r#""},{"content":"b"}]}"#,
            ),
            (
                r#"{"messages":[{"content":[{"type":"image_url"},{"type":"text","text":""#,
                "",
                r#""}]}]}"#,
            ),
            (r#"{"messages":[{"content":null},{"content":""#, "b", r#""}]}"#),
            (r#"{"prompt":[""#, "a", r#"","b"]}"#),
            (r#"{"input":""#, "a", r#"","model":"m"}"#),
            (r#"{"instructions":""#, "a", r#"","input":"b"}"#),
            (r#"{"input":[{"content":""#, "b", r#""}]}"#),
        ] {
            let seen = salt(&format!("{before}{text}{after}"), 1).unwrap();
            assert_eq!(seen, format!("{before}{prefix}{text}{after}"));
        }
        for body in [
            "",
            "{}",
            "[1]",
            r#"{"prompt":[1,2]}"#,
            r#"{"messages":[{"content":[]}]}"#,
            "{\"prompt\":\"x",
        ] {
            assert_eq!(salt(body, 1), None, "{body}");
        }
        let others = [salt(r#"{"prompt":"x"}"#, 2).unwrap(), plain.clone()];
        assert_ne!(others[0], others[1]);
        assert_ne!(salted(br#"{"prompt":"x"}"#, 1, 8).unwrap(), plain.into_bytes());
    }

    proptest! {
        #[test]
        fn scaling_is_repeatable_in_order_and_by_whole_sessions(
            starts in proptest::collection::vec((0_u64..2_000, 0_u32..9), 1..60),
            sample_ppm in 1..=MILLION,
            clones in 1_u32..4,
            shift in 0_u64..500,
            cap in proptest::option::of(0_u64..300),
            ties in proptest::option::of(0_u64..300),
            seed in any::<u64>(),
        ) {
            let mut starts = starts;
            starts.sort_unstable();
            let known = recorded(&starts);
            let options = Scale {
                sample_ppm, clones, seed,
                clone_shift: Duration::from_millis(shift),
                idle_cap: cap.map(Duration::from_millis),
                spread_ties: ties.map(Duration::from_millis),
            };
            let Ok(scaled) = scale(known.clone(), &options) else { return Ok(()) };
            prop_assert_eq!(&scaled, &scale(known.clone(), &options).unwrap());
            prop_assert!(scaled.is_sorted_by_key(|known| known.start));
            let sizes = |all: &[Known]| {
                let mut sizes = BTreeMap::<String, usize>::new();
                for known in all {
                    *sizes.entry(known.turn.name.as_deref().unwrap().to_owned()).or_default() += 1;
                }
                sizes
            };
            let all = sizes(&known);
            for (name, size) in sizes(&scaled) {
                prop_assert_eq!(Some(&size), all.get(name.split('~').next().unwrap()));
            }
            for known in scaled.iter().filter(|known| known.copy > 0) {
                let twin = scaled.iter().find(|twin| (twin.id, twin.copy) == (known.id, 0)).unwrap();
                prop_assert!(known.start >= twin.start && known.start.0 - twin.start.0 <= shift * MS);
            }
            // A larger share keeps what a smaller one keeps.
            let all = scale(known, &Scale { sample_ppm: MILLION, ..options }).unwrap();
            prop_assert!(scaled.iter().all(|known| all.contains(known)));
        }
    }
}
