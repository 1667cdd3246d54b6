//! The schema of the run folder: it only ever grows.

use reenact::results::rows::{FrameRow, GpuSample, HostSample, Measurement, ServerMetric};
use reenact::results::table::{Column, Row};

fn columns<R: Row>() -> String {
    let column = |column: &Column| {
        let null = if column.nullable { "" } else { " NOT NULL" };
        format!("  {} {}{null}\n", column.name, column.kind.sql())
    };
    format!("{}\n{}", R::TABLE, R::COLUMNS.iter().map(column).collect::<String>())
}

#[test]
fn columns_stay() {
    let all = [
        columns::<Measurement>(),
        columns::<FrameRow>(),
        columns::<GpuSample>(),
        columns::<HostSample>(),
        columns::<ServerMetric>(),
    ];
    assert_eq!(all.concat(), SCHEMA);
}

fn documented<R: Row>() {
    assert!(R::DOC.ends_with('.'), "{}", R::TABLE);
    for column in R::COLUMNS {
        assert!(column.doc.len() > 5, "{}.{} has no documentation", R::TABLE, column.name);
        assert!(!column.doc.contains("  "), "{}.{}: {:?}", R::TABLE, column.name, column.doc);
    }
}

#[test]
fn every_column_is_documented() {
    documented::<Measurement>();
    documented::<FrameRow>();
    documented::<GpuSample>();
    documented::<HostSample>();
    documented::<ServerMetric>();
}

/// Schema 1. A line may be added, none changed or taken away: queries and notebooks stand on it.
const SCHEMA: &str = "\
requests
  run VARCHAR NOT NULL
  exchange UBIGINT NOT NULL
  round UINTEGER NOT NULL
  session VARCHAR
  turn UINTEGER
  target VARCHAR NOT NULL
  dialect VARCHAR NOT NULL
  operation VARCHAR NOT NULL
  method VARCHAR NOT NULL
  path VARCHAR NOT NULL
  model_recorded VARCHAR
  model_sent VARCHAR
  stream BOOLEAN
  due_ns BIGINT
  sent_ns BIGINT
  request_end_ns BIGINT
  headers_ns BIGINT
  first_frame_ns BIGINT
  first_token_ns BIGINT
  first_answer_token_ns BIGINT
  last_token_ns BIGINT
  end_ns BIGINT
  due_at TIMESTAMP WITH TIME ZONE
  sent_at TIMESTAMP WITH TIME ZONE
  end_at TIMESTAMP WITH TIME ZONE
  lateness_ns BIGINT
  connection UBIGINT
  connection_reused BOOLEAN
  connect_ns BIGINT
  tls_ns BIGINT
  http_version VARCHAR
  retries UINTEGER NOT NULL
  status USMALLINT
  outcome VARCHAR NOT NULL
  fault VARCHAR
  error_kind VARCHAR
  error VARCHAR
  finish_reason VARCHAR
  server_request_id VARCHAR
  request_bytes UBIGINT NOT NULL
  response_bytes UBIGINT NOT NULL
  response_frames UBIGINT NOT NULL
  response_events UBIGINT NOT NULL
  input_tokens UBIGINT
  input_tokens_source VARCHAR
  output_tokens UBIGINT
  output_tokens_source VARCHAR
  cached_tokens UBIGINT
  reasoning_tokens UBIGINT
  prompt_chars UBIGINT
  output_chars UBIGINT
  reasoning_chars UBIGINT
  images UINTEGER NOT NULL
  media_bytes UBIGINT NOT NULL
  ttft_ns BIGINT
  ttft_due_ns BIGINT
  itl_mean_ns BIGINT
  tpot_ns BIGINT
  e2e_ns BIGINT
  e2e_due_ns BIGINT
  recorded_at_ns BIGINT
  recorded_status USMALLINT
  recorded_outcome VARCHAR
  recorded_ttft_ns BIGINT
  recorded_e2e_ns BIGINT
  recorded_input_tokens UBIGINT
  recorded_output_tokens UBIGINT
  recorded_finish_reason VARCHAR
  request_digest VARCHAR
  output_digest VARCHAR
  recorded_output_digest VARCHAR
  output_equal BOOLEAN
  output_differs_at UBIGINT
  output_pinned VARCHAR
  tool_shape VARCHAR
  recorded_tool_shape VARCHAR
  recorded_output_tokens_source VARCHAR
  status_equal BOOLEAN
  outcome_equal BOOLEAN
  finish_reason_equal BOOLEAN
  tool_shape_equal BOOLEAN
  input_tokens_diff BIGINT
  output_tokens_diff BIGINT
  answer_equal BOOLEAN
  target_index UINTEGER
  stage UINTEGER
  load_user UINTEGER
  warmup BOOLEAN NOT NULL
  timeout VARCHAR
  history VARCHAR
frames
  exchange UBIGINT NOT NULL
  round UINTEGER NOT NULL
  frame UINTEGER NOT NULL
  at_ns BIGINT NOT NULL
  accepted_ns BIGINT
  bytes UINTEGER NOT NULL
  events UINTEGER NOT NULL
  content_chars UINTEGER NOT NULL
  reasoning_chars UINTEGER NOT NULL
  tool_chars UINTEGER NOT NULL
  target_index UINTEGER NOT NULL
  bare BOOLEAN
gpu
  gpu UINTEGER NOT NULL
  at_ns BIGINT NOT NULL
  sampled_at TIMESTAMP WITH TIME ZONE NOT NULL
  utilization_pct UINTEGER
  memory_utilization_pct UINTEGER
  memory_used_bytes UBIGINT
  memory_total_bytes UBIGINT
  process_memory_bytes UBIGINT
  own_memory_bytes UBIGINT
  power_w DOUBLE
  power_limit_w DOUBLE
  energy_j DOUBLE
  temperature_c DOUBLE
  memory_temperature_c DOUBLE
  sm_clock_mhz UINTEGER
  memory_clock_mhz UINTEGER
  throttle_reasons VARCHAR
  pcie_rx_bytes_per_s UBIGINT
  pcie_tx_bytes_per_s UBIGINT
  pstate UINTEGER
  fan_pct UINTEGER
host
  at_ns BIGINT NOT NULL
  sampled_at TIMESTAMP WITH TIME ZONE NOT NULL
  cpu_pct DOUBLE
  cpu_busiest_pct DOUBLE
  cpu_steal_pct DOUBLE
  load_1m DOUBLE
  memory_used_bytes UBIGINT
  memory_total_bytes UBIGINT
  switches UBIGINT
  net_rx_bytes UBIGINT
  net_tx_bytes UBIGINT
  process_cpu_pct DOUBLE
  process_rss_bytes UBIGINT
  process_threads UINTEGER
  process_voluntary_switches UBIGINT
  process_involuntary_switches UBIGINT
  process_run_delay_ns UBIGINT
server_metrics
  at_ns BIGINT NOT NULL
  sampled_at TIMESTAMP WITH TIME ZONE NOT NULL
  target VARCHAR NOT NULL
  name VARCHAR NOT NULL
  labels VARCHAR NOT NULL
  value DOUBLE NOT NULL
";
