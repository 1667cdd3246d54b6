//! One integration binary; each module is one behaviour.
#![expect(clippy::unwrap_used, reason = "a test that panics has failed, and says where")]

mod demo;
mod dialect_openai;
mod http_client;
mod http_server;
mod layering;
mod proxy_exchange;
mod proxy_identity;
mod proxy_limits;
mod proxy_protocol;
mod proxy_smuggling;
mod proxy_upstream;
mod record_admin;
mod record_command;
mod record_handover;
mod record_reload;
mod replay_calls;
mod replay_command;
mod replay_support;
mod report_page;
mod results_run;
mod results_schema;
mod simulate_command;
mod simulate_server;
mod support;
mod telemetry_command;
mod telemetry_samples;
mod trace_command;
mod trace_cut;
mod trace_damage;
mod trace_events;
mod trace_recover;
mod trace_roll;
mod trace_roundtrip;
mod trace_segments;
mod trace_size;
