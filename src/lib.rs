//! `reenact` records real LLM traffic in front of production and re-enacts it, byte for byte and on time, against any
//! backend. What comes out is Parquet.
//!
//! This page is the map. Read it, then [`trace::record`] (what is recorded), `src/trace/FORMAT.md` (how it lies on disk),
//! [`http::tap`] (how a body is watched), [`proxy`] (how traffic gets into a trace), [`replay`] (how it gets out again)
//! and [`results::rows`] (what is measured).
//!
//! # Flow
//!
//! ```text
//! record   client -> proxy::handler -> http::tap --try_send(Event)--> recorder thread -> privacy::Veil -> trace::Roll -> segments
//!                         \-> http::client -> upstream
//! replay   file -> trace::Trace -> replay::plan -> pacer thread --Release--> dispatch -> call -> http::client -> target
//!                    (reactive: conductor <--ends--)         call --Measurement--> results thread -> Parquet
//!          telemetry --Sample--> the same results thread -> Parquet
//! report   Parquet -> results -> report::stats -> report::html
//! ```
//!
//! Every channel is bounded and has one `finish()` where its error comes out.
//!
//! # The house
//!
//! Nouns at rest below, plumbing in the middle, verbs above, the command on top. `tests/it/layering.rs` holds the table:
//!
//! | module | what it is | may use |
//! |---|---|---|
//! | [`clock`] | the only reader of time | nothing |
//! | [`trace`] | the container: records, format, writer, reader | clock |
//! | [`dialect`] | what the bytes mean: framings and API families | clock, trace |
//! | [`privacy`] | policies: what of the traffic may be in a trace | clock, trace, dialect |
//! | [`results`] | rows, manifest, Parquet | clock, trace, dialect |
//! | [`http`] | sockets without policy: tap, client, servers, TLS | clock, trace |
//! | [`proxy`] | the recording reverse proxy | nouns, http |
//! | [`replay`] | plan, loads, pacer, calls | nouns, http |
//! | [`telemetry`] | GPU, host and server samples | nouns, http |
//! | [`simulate`] | the simulated server | nouns, http |
//! | [`report`] | a run folder's tables and page | nouns |
//! | [`cli`] | arguments, and what the verbs have in common | all |
//!
//! Nouns use no verb, and verbs never name each other: only `cli` puts them together. What two verbs need is a noun,
//! and moves down.
//!
//! # Invariants
//!
//! Each names tests that hold it; `tests/it/layering.rs` checks that they exist.
//!
//! 1. Recording never fails, delays or alters an exchange. The per-frame path is: poll the inner body, read the clock
//!    (once for frames that were read together), push a reference-counted `Bytes`, hand the frame over. No parse, no await, no
//!    lock, no copy (but for small frames, which would otherwise keep a whole read buffer alive). `requests_arrive_byte_for_byte`, `responses_arrive_byte_for_byte`,
//!    `each_event_arrives_when_it_was_sent`, `a_full_queue_harms_no_exchange_and_every_loss_is_counted`,
//!    `a_full_disk_harms_no_traffic_and_what_is_on_it_can_be_read`, `a_stalled_disk_does_not_slow_a_client`,
//!    `a_log_that_fails_for_a_while_loses_nothing_that_fits_into_the_queue`
//! 2. Conservation: admitted = complete + failed + cancelled + sampled out + dropped, provable from the trace alone by
//!    `reenact trace verify`. A dropped thing is a gap, its times are dropped last; what is left out on purpose is an
//!    omission; what passes while recording is stopped on request is not admitted, and counted; a part of a trace accounts
//!    for the whole.
//!    `verify_has_three_verdicts`, `loss_is_exit_status_3_and_a_gap_in_the_trace`,
//!    `what_ends_say_was_lost_is_covered_by_gaps`, `times_are_kept_of_what_is_left_out_while_there_is_any_room`,
//!    `recording_stops_and_starts_while_traffic_goes_on`, `a_sieve_loses_nothing_and_states_what_it_leaves_out`,
//!    `what_is_cut_apart_and_merged_is_what_it_was`
//! 3. An exchange is admitted before the first await: a client that leaves before the response head is recorded.
//!    `a_client_that_leaves_before_the_response_head_is_recorded_and_the_upstream_cancelled`
//! 4. Bytes and cut points are stored as they passed; what they mean is derived later, by [`dialect`].
//!    `any_traffic_reads_back`
//! 5. Each frame carries two stamps: read from one side, and accepted by the other; monotonic, one wall anchor.
//!    `each_frame_is_told_with_the_time_it_was_read_and_the_time_it_was_accepted`,
//!    `a_drained_frame_is_accepted_at_once_unless_it_was_the_last_that_had_room`,
//!    `of_frames_that_are_drained_together_the_last_is_accepted_when_more_is_asked_for`
//! 6. Credentials are replaced before the queue, and what a policy does not let into a trace before a byte reaches the
//!    disk. The list of redacted fields is the list of credentials. `no_credential_gets_into_the_queue`,
//!    `no_secret_that_a_policy_names_is_anywhere_in_a_recording`, `what_is_sent_carries_no_recorded_credential_and_names_the_target`.
//!    An encrypted trace is read by its recipients alone. `no_byte_of_what_was_recorded_is_on_the_disk_in_the_clear`
//! 7. A trace cut at any byte reads up to its last flushed record and says so. Every length is checked against a named
//!    limit before it is allocated. Reader memory follows the block, not the file.
//!    `a_trace_cut_at_any_byte_reads_up_to_its_last_flush_and_says_so`,
//!    `an_encrypted_trace_cut_at_any_byte_reads_up_to_its_last_flush_and_says_so`, `a_killed_recorder_loses_at_most_the_last_200_ms`,
//!    `recorders_killed_at_random_moments_lose_no_flushed_record`
//! 8. A release never waits for the disk: what is ready goes when it is due. (While thousands of results wait to be written,
//!    nothing more is made ready, and the verdict says so: memory is bounded.) Due times are absolute, and fixed before the run
//!    unless they follow from the ends of others (a reactive load); lateness is in every row.
//!    `memory_stays_flat_whatever_the_trace_holds`, `a_stream_is_marked_frame_by_frame`, `no_failure_shrinks_a_closed_loop`,
//!    `whoever_makes_releases_ready_waits_for_a_results_thread_that_is_behind`
//! 9. Same trace, same options: the same bytes in the same order at the same due times, on every machine; of a reactive load,
//!    whose due times are the target's doing, the same bytes in the plan's order.
//!    `two_replays_and_a_dry_run_have_the_same_digest_and_another_seed_has_not`,
//!    `scaled_plans_are_the_same_for_the_same_seed`,
//!    `a_closed_loop_sends_the_same_requests_in_the_same_order_each_time`. Which target gets which follows from the plan, too, but for
//!    `--balance least-outstanding`, which looks at the targets. `targets_take_turns_in_a_stated_order`
//! 10. A failed request is a row. A percentile says which rows it was taken over.
//!     `errors_of_the_server_are_rows_and_not_our_failures`, `a_run_is_reported_whole`
//! 11. Marks are raw: durations and other tools' metrics are functions over them (`reports/sql/other_tools.sql`).
//!     `durations_follow_from_the_marks`
//! 12. The report depends on the run folder alone. `an_empty_run_and_missing_files_are_sentences`
//! 13. `unsafe` is forbidden; order never depends on a hash map; time is read in [`clock`] only.
//!     `time_is_read_in_one_place_and_nothing_is_ordered_by_a_hash`
//! 14. A message without one certain end, or one certain host, goes no further; nothing is sent twice; nobody is waited for
//!     for ever. `a_request_with_two_ends_is_refused`, `a_response_without_one_certain_end_is_a_502`,
//!     `an_upstream_that_closes_without_a_response_is_a_502_and_asked_once`,
//!     `a_client_that_does_not_read_is_let_go_and_the_upstream_too`

pub mod cli;
pub mod clock;
pub mod dialect;
pub mod http;
pub mod privacy;
pub mod proxy;
pub mod replay;
pub mod report;
pub mod results;
pub mod simulate;
pub mod telemetry;
pub mod trace;
