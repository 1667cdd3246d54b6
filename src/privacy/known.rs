//! What the APIs' own words are, in JSON: member names that say nothing of anybody, and values that a replay needs.

use crate::privacy::json::Level;

/// What to do with a value when shapes are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// A text of its own.
    Text,
    /// It stays if it looks like a name, as `assistant` or `gpt-4o` do.
    Name,
    /// It stays if it is a word of JSON Schema.
    SchemaType,
    /// It stays if it is a member name that stays.
    Member,
    /// A part of a text that comes in several events.
    Delta,
    /// A token, of a text that other members have whole.
    Token,
    /// It is base64, unless it looks otherwise.
    Media,
}

/// Returns what the text value at `path` is.
pub(super) fn meaning(path: &[Level], in_event: InEvent) -> Meaning {
    let Some(key) = member(path) else { return Meaning::Text };
    if is_in(path, "logprobs") && key == "token" {
        return Meaning::Token;
    }
    if key == "type" && is_free(path) {
        return Meaning::SchemaType;
    }
    if key == "required" {
        return Meaning::Member;
    }
    if NAME_VALUES.binary_search(&key).is_ok() && !is_free(path) {
        return Meaning::Name;
    }
    if in_event == InEvent::Yes && is_delta(path, key) {
        return Meaning::Delta;
    }
    if MEDIA.binary_search(&key).is_ok() {
        return Meaning::Media;
    }
    Meaning::Text
}

/// Whether a document is one of many that a body consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum InEvent {
    Yes,
    No,
}

/// Returns whether a member of this name is the API's, and not somebody's data.
pub(super) fn is_member(name: &str) -> bool {
    MEMBERS.binary_search(&name).is_ok()
}

/// Returns whether a value looks like a name rather than a text.
pub(super) fn is_name(value: &str) -> bool {
    value.len() <= MAX_NAME
        && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_./:@+".contains(&byte))
}

/// Returns whether a value names a type in JSON Schema.
pub(super) fn is_schema_type(value: &str) -> bool {
    ["array", "boolean", "integer", "null", "number", "object", "string"].contains(&value)
}

/// Returns whether the numbers of a list at `path` are a text in another form: tokens, bytes, an embedding.
pub(super) fn are_text(path: &[Level]) -> bool {
    matches!(path.last(), Some(Level::Array(_)))
        && member(path).is_some_and(|key| NUMBERS.binary_search(&key).is_ok())
}

/// Returns whether the number at `path` tells events of several texts apart.
pub(super) fn is_index(path: &[Level]) -> bool {
    matches!(
        path.last(),
        Some(Level::Object(key)) if matches!(&**key, "index" | "output_index" | "content_index")
    )
}

/// Longest value that can be a name.
pub(super) const MAX_NAME: usize = 64;

/// Returns the name of the innermost member.
fn member(path: &[Level]) -> Option<&str> {
    path.iter().rev().find_map(|level| match level {
        Level::Object(key) => Some(&**key),
        Level::Array(_) => None,
    })
}

fn is_in(path: &[Level], name: &str) -> bool {
    path.iter().any(|level| matches!(level, Level::Object(key) if key == name))
}

/// Returns whether `path` is within what users and models fill as they like.
fn is_free(path: &[Level]) -> bool {
    let Some((_, outer)) = path.split_last() else { return false };
    outer.iter().enumerate().any(|(depth, level)| {
        let Level::Object(key) = level else { return false };
        match &**key {
            // At the top these are the Responses API's own.
            "input" | "response" => depth > 0,
            "args" | "arguments" | "input_schema" | "metadata" | "parameters" | "properties"
            | "schema" => true,
            _ => false,
        }
    })
}

fn is_delta(path: &[Level], key: &str) -> bool {
    let names: Vec<&str> = path
        .iter()
        .filter_map(|level| match level {
            Level::Object(key) => Some(&**key),
            Level::Array(_) => None,
        })
        .collect();
    match &names[..] {
        ["choices", "delta", ..] => !matches!(key, "id" | "name"),
        ["delta", rest @ ..] => !matches!(rest, ["stop_sequence" | "id" | "name"]),
        ["choices", "text"]
        | ["message", "content" | "thinking"]
        | ["response" | "content"]
        | ["token", "text"]
        | ["candidates", "content", "parts", "text"] => true,
        _ => false,
    }
}

/// Members whose values stay when they look like names.
const NAME_VALUES: [&str; 29] = [
    "code",
    "detail",
    "done_reason",
    "effort",
    "encoding_format",
    "finishReason",
    "finish_reason",
    "format",
    "language",
    "media_type",
    "mimeType",
    "mime_type",
    "mode",
    "model",
    "modelVersion",
    "native_finish_reason",
    "object",
    "quality",
    "reasoning_effort",
    "response_format",
    "role",
    "service_tier",
    "size",
    "status",
    "stop_reason",
    "stop_type",
    "tool_choice",
    "type",
    "voice",
];

/// Members whose values are base64.
const MEDIA: [&str; 9] = [
    "b64_json",
    "data",
    "embedding",
    "file_data",
    "image",
    "image_data",
    "image_url",
    "images",
    "url",
];

/// Members whose lists of numbers are text.
const NUMBERS: [&str; 12] = [
    "bytes",
    "data",
    "embedding",
    "embeddings",
    "input",
    "input_ids",
    "output_ids",
    "prompt",
    "prompt_token_ids",
    "token_ids",
    "tokens",
    "values",
];

/// Members that are an API's own: of OpenAI, Anthropic, Ollama, llama.cpp, TGI, vLLM, SGLang, Gemini and JSON Schema. Any
/// other may be somebody's data.
const MEMBERS: [&str; 439] = [
    "$comment",
    "$defs",
    "$id",
    "$ref",
    "$schema",
    "_type",
    "accepted_prediction_tokens",
    "adapter",
    "add_generation_prompt",
    "additionalProperties",
    "additional_properties",
    "aliases",
    "allOf",
    "allowed_openai_params",
    "allowed_tools",
    "annotations",
    "anthropic_beta",
    "anthropic_version",
    "anyOf",
    "api",
    "args",
    "arguments",
    "audio",
    "audio_tokens",
    "b64_json",
    "background",
    "batch",
    "best_of",
    "betas",
    "bootstrap_host",
    "bootstrap_port",
    "bootstrap_room",
    "bos_token",
    "budget_tokens",
    "bytes",
    "cache_control",
    "cache_creation",
    "cache_creation_input_tokens",
    "cache_prompt",
    "cache_read_input_tokens",
    "cache_salt",
    "cached",
    "cached_tokens",
    "candidateCount",
    "candidates",
    "candidatesTokenCount",
    "chat_template",
    "chat_template_kwargs",
    "choices",
    "citations",
    "code",
    "completed_at",
    "completion",
    "completion_reason",
    "completion_start_time",
    "completion_tokens",
    "completion_tokens_details",
    "const",
    "contains",
    "content",
    "content_block",
    "content_filter_results",
    "content_index",
    "context_management",
    "continue_final_message",
    "conversation",
    "create_new_file",
    "created",
    "created_at",
    "created_time",
    "custom_logit_processor",
    "data",
    "decoder_input_details",
    "default",
    "defer_loading",
    "definitions",
    "delta",
    "dependencies",
    "description",
    "detail",
    "dimensions",
    "display_height_px",
    "display_number",
    "display_width_px",
    "do_sample",
    "done",
    "done_reason",
    "download",
    "duration",
    "e2e_latency",
    "echo",
    "effort",
    "else",
    "embedding",
    "embeddings",
    "enable_thinking",
    "encoding_format",
    "encrypted_content",
    "end_index",
    "enum",
    "ephemeral_1h_input_tokens",
    "ephemeral_5m_input_tokens",
    "error",
    "eval_count",
    "eval_duration",
    "event",
    "eventId",
    "examples",
    "exclude",
    "exclusiveMaximum",
    "exclusiveMinimum",
    "extra_body",
    "extra_body_params",
    "file",
    "file_data",
    "file_id",
    "file_url",
    "filename",
    "finishReason",
    "finish_reason",
    "flagged",
    "format",
    "frequency_penalty",
    "function",
    "functionCall",
    "functionCallingConfig",
    "functionDeclarations",
    "functionResponse",
    "function_call",
    "functions",
    "generatedText",
    "generated_text",
    "generated_tokens",
    "generationConfig",
    "grammar",
    "guided_choice",
    "guided_decoding_backend",
    "guided_grammar",
    "guided_json",
    "guided_regex",
    "id",
    "ids",
    "if",
    "ignore_eos",
    "image",
    "image_data",
    "image_token",
    "image_url",
    "images",
    "include",
    "include_reasoning",
    "include_stop_str_in_output",
    "include_usage",
    "incomplete_details",
    "index",
    "inlineData",
    "inline_data",
    "input",
    "input_audio",
    "input_ids",
    "input_schema",
    "input_tokens",
    "input_tokens_details",
    "input_type",
    "inputs",
    "instances",
    "instructions",
    "is_error",
    "item",
    "item_id",
    "items",
    "json_schema",
    "keep_alive",
    "kv_transfer_params",
    "language",
    "length_penalty",
    "level",
    "load_duration",
    "logit_bias",
    "logprob",
    "logprobs",
    "logprobs_result",
    "lora",
    "lora_path",
    "max",
    "maxItems",
    "maxLength",
    "maxOutputTokens",
    "max_completion_tokens",
    "max_model_len",
    "max_new_tokens",
    "max_output_tokens",
    "max_prompt_tokens",
    "max_tokens",
    "max_tool_calls",
    "maximum",
    "mcp_servers",
    "mean_time",
    "media_type",
    "message",
    "message_id",
    "messages",
    "meta_info",
    "metadata",
    "method",
    "mimeType",
    "mime_type",
    "min",
    "minItems",
    "minLength",
    "min_p",
    "min_tokens",
    "minimum",
    "mirostat",
    "mirostat_eta",
    "mirostat_tau",
    "mm_processor_kwargs",
    "modalities",
    "mode",
    "model",
    "modelVersion",
    "model_extra",
    "models",
    "multi_modal_data",
    "n",
    "n_keep",
    "n_predict",
    "n_probs",
    "name",
    "native_finish_reason",
    "not",
    "nullable",
    "num_ctx",
    "num_gpu",
    "num_predict",
    "num_return_sequences",
    "num_thread",
    "obfuscation",
    "object",
    "object_id",
    "offset",
    "oneOf",
    "options",
    "original_size",
    "output",
    "output_ids",
    "output_index",
    "output_text",
    "output_tokens",
    "output_tokens_details",
    "outputs",
    "owned_by",
    "parallel_tool_calls",
    "param",
    "parameters",
    "params",
    "parent",
    "part",
    "partial_json",
    "parts",
    "pattern",
    "patternProperties",
    "penalize_newline",
    "pending",
    "perf",
    "permission",
    "phase",
    "predicted_ms",
    "predicted_n",
    "predicted_per_second",
    "predicted_per_token_ms",
    "prediction",
    "predictions",
    "prefix",
    "prefixItems",
    "presence_penalty",
    "previous_response_id",
    "priority",
    "prompt",
    "promptFeedback",
    "promptTokenCount",
    "prompt_cache_key",
    "prompt_eval_count",
    "prompt_eval_duration",
    "prompt_filter_results",
    "prompt_logprobs",
    "prompt_ms",
    "prompt_n",
    "prompt_per_second",
    "prompt_per_token_ms",
    "prompt_token_ids",
    "prompt_tokens",
    "prompt_tokens_details",
    "properties",
    "propertyNames",
    "provider",
    "quality",
    "raw",
    "reason",
    "reasoning",
    "reasoning_content",
    "reasoning_effort",
    "reasoning_tokens",
    "redacted_thinking",
    "refusal",
    "regex",
    "rejected_prediction_tokens",
    "repeat_last_n",
    "repeat_penalty",
    "repetition_penalty",
    "request_id",
    "request_type",
    "required",
    "response",
    "responseMimeType",
    "responseSchema",
    "response_format",
    "responses",
    "result",
    "results",
    "return_full_text",
    "return_hidden_states",
    "return_logprob",
    "return_text_in_logprobs",
    "return_tokens_as_token_ids",
    "rid",
    "role",
    "root",
    "safe_prompt",
    "safetyRatings",
    "safetySettings",
    "safety_identifier",
    "sampling_params",
    "schema",
    "score",
    "scores",
    "seed",
    "sequence_number",
    "server_tool_use",
    "service_tier",
    "session_id",
    "session_params",
    "signature",
    "size",
    "skip_special_tokens",
    "slot_id",
    "source",
    "spaces_between_special_tokens",
    "speculative",
    "start_index",
    "status",
    "stop",
    "stopSequences",
    "stop_reason",
    "stop_sequence",
    "stop_sequences",
    "stop_token_ids",
    "stop_type",
    "store",
    "strategy",
    "stream",
    "stream_interval",
    "stream_options",
    "strict",
    "string",
    "structured_outputs",
    "suffix",
    "summary",
    "system",
    "systemInstruction",
    "system_fingerprint",
    "task",
    "temperature",
    "temperature_last",
    "text",
    "textOutput",
    "text_offset",
    "tfs_z",
    "then",
    "thinking",
    "thinkingConfig",
    "thinking_budget",
    "thoughtSignature",
    "thoughts_token_count",
    "time_info",
    "timings",
    "title",
    "token",
    "token_ids",
    "token_logprobs",
    "tokens",
    "tokens_cached",
    "tokens_evaluated",
    "tokens_predicted",
    "toolConfig",
    "tool_call_id",
    "tool_calls",
    "tool_choice",
    "tool_plan",
    "tool_result",
    "tool_use",
    "tool_use_id",
    "tools",
    "topK",
    "topP",
    "top_k",
    "top_logprobs",
    "top_n_tokens",
    "top_p",
    "totalTokenCount",
    "total_duration",
    "total_tokens",
    "transcript",
    "truncate",
    "truncate_prompt_tokens",
    "truncated",
    "truncation",
    "type",
    "typical_p",
    "ui",
    "uniqueItems",
    "url",
    "usage",
    "usageMetadata",
    "use_beam_search",
    "user",
    "user_location",
    "values",
    "verbosity",
    "version",
    "video",
    "video_url",
    "voice",
    "warnings",
    "watermark",
    "web_search_options",
    "weight",
    "weight_version",
    "worker_id",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Vec<Level> {
        let level =
            |step: &str| step.parse().map_or_else(|_| Level::Object(step.to_owned()), Level::Array);
        text.split('/').skip(1).map(level).collect()
    }

    #[track_caller]
    fn check(text: &str, expected: &Meaning) {
        assert_eq!(meaning(&path(text), InEvent::Yes), *expected, "{text}");
    }

    #[test]
    fn the_lists_are_sorted() {
        for list in [&MEMBERS[..], &NAME_VALUES, &MEDIA, &NUMBERS] {
            assert!(list.windows(2).all(|pair| pair[0] < pair[1]), "{list:?}");
        }
    }

    #[test]
    fn values_have_their_meaning_by_their_place() {
        check("/model", &Meaning::Name);
        check("/messages/0/role", &Meaning::Name);
        check("/messages/0/content", &Meaning::Text);
        check("/input/0/role", &Meaning::Name);
        check("/messages/1/content/0/input/role", &Meaning::Text);
        check("/tools/0/function/parameters/properties/city/type", &Meaning::SchemaType);
        check("/tools/0/function/parameters/required/0", &Meaning::Member);
        check("/metadata/model", &Meaning::Text);
        check("/choices/0/delta/content", &Meaning::Delta);
        check("/choices/0/delta/role", &Meaning::Name);
        check("/choices/0/delta/tool_calls/0/function/arguments", &Meaning::Delta);
        check("/choices/0/delta/tool_calls/0/function/name", &Meaning::Text);
        check("/choices/0/message/content", &Meaning::Text);
        check("/choices/0/logprobs/content/3/token", &Meaning::Token);
        check("/delta/text", &Meaning::Delta);
        check("/delta", &Meaning::Delta);
        check("/text", &Meaning::Text);
        check("/images/0", &Meaning::Media);
        assert_eq!(meaning(&path("/choices/0/text"), InEvent::No), Meaning::Text);
        assert!(are_text(&path("/prompt/0")) && are_text(&path("/prompt/0/7")));
        assert!(!are_text(&path("/max_tokens")) && !are_text(&path("/prompt")));
    }

    #[test]
    fn names_are_told_from_texts() {
        assert!(is_name("meta-llama/Llama-3.1-8B-Instruct:latest") && is_name("tool_calls"));
        assert!(!is_name("two words") && !is_name("h\u{e9}") && !is_name(&"x".repeat(65)));
        assert!(is_member("messages") && !is_member("patient"));
    }
}
