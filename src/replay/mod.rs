//! Replay: a trace goes out again, on time, against any target, and each exchange is measured.
//!
//! ```text
//! trace -> survey -> plan                                     before the run: what is due when
//! trace -> feeder -> pacer -> call -> ledger -> row           the run: made ready, released, sent, written
//!                      \-> verdict                             after it: whether it can be trusted
//! ```
//!
//! | file | what it does |
//! |---|---|
//! | [`survey`] | one pass over the trace: what must be known ahead of each exchange ([`known`]), what is left out |
//! | [`session`] | which exchanges belong to one conversation, in which order; [`session_key`] is how they are found |
//! | [`history`] | the target's own answers in later turns of a session |
//! | [`scale`] | what is replayed of what was recorded: shares, copies, shorter gaps |
//! | [`plan`] | starts and options to due times, pure (`dues.rs` walks them); [`arrival`] has the random processes, [`stages`] loads that change by plan |
//! | [`search`] | which load is tried next in a search for the highest |
//! | [`rewrite`] | the request to send from the recorded one; [`splice`] changes JSON in place, [`pin`] lengths of outputs, in the words of a [`family`] of servers (`constraint.rs`: where they must not be) |
//! | [`feeder`] | makes releases ready ahead of their due times, within a byte budget |
//! | [`pacer`] | one thread that releases each when it is due |
//! | [`load`] | reactive loads, pure: which release follows from which end |
//! | [`conductor`] | the pacer's place with such a load: tokens from the load, ends from the calls; [`wanted`] is what it asks of the feeder |
//! | [`call`] | one exchange: marks and bytes, nothing else; [`outgoing`] is its body, [`ending`] why it may end early (`alarm.rs` wakes it), [`pace`] how fast it reads, `keep.rs` how its answer is kept |
//! | [`route`] | the targets, their connections opened ahead; [`balance`] says which gets what, [`connections`] which calls share one |
//! | [`ledger`] | the results thread; [`row`] reads what the bytes mean, [`summary`] counts, in [`quantile`]s |
//! | [`warmup`] | which rows no figure counts |
//! | [`refusal`] | whether a target refuses everything: such a run is ended |
//! | [`verdict`] | every reason against the measurement, as a sentence; `pulse.rs` watches the calls' thread |
//! | [`calibrate`] | what we can do on this machine, measured before a run against [`sink`] |
//! | [`run`] | the threads of it all; [`progress`] says how far they are, `probe.rs` what targets say of themselves |
//!
//! What must hold: due times are absolute, and fixed before the run unless they follow from the ends of others; a release
//! never waits for the disk; what is sent is the same bytes in the same order, proved by the digest; lateness, our own error,
//! is in every row; a failed request is a row.
//!
//! A schedule is data, and there is one dispatcher: another clock is another source of due times.

mod alarm;
pub mod arrival;
pub mod balance;
pub mod calibrate;
pub mod call;
pub mod conductor;
pub mod connections;
mod constraint;
mod dues;
pub mod ending;
pub mod family;
pub mod feeder;
pub mod history;
mod keep;
pub mod known;
pub mod launch;
pub mod ledger;
pub mod load;
pub mod memo;
pub mod outgoing;
pub mod pace;
pub mod pacer;
pub mod pin;
pub mod plan;
mod priority;
mod probe;
pub mod progress;
mod pulse;
pub mod quantile;
pub mod refusal;
pub mod rewrite;
pub mod route;
pub mod row;
pub mod run;
pub mod scale;
pub mod search;
pub mod session;
pub mod session_key;
pub mod sink;
pub mod splice;
pub mod stages;
pub mod summary;
pub mod survey;
pub mod verdict;
pub mod wanted;
pub mod warmup;
