//! The names of members that are an API's own.

use std::collections::BTreeSet;
use std::sync::LazyLock;

/// Of OpenAI, Anthropic, Ollama, llama.cpp, TGI, vLLM, SGLang, Gemini and JSON Schema. Any other may be somebody's data.
pub(super) static MEMBERS: LazyLock<BTreeSet<&str>> =
    LazyLock::new(|| NAMES.split_terminator(' ').collect());

const NAMES: &str = "\
    $comment $defs $id $ref $schema _type accepted_prediction_tokens adapter add_generation_prompt \
    additionalProperties additional_properties aliases allOf allowed_openai_params allowed_tools \
    annotations anthropic_beta anthropic_version anyOf api args arguments audio audio_tokens b64_json \
    background batch best_of betas bootstrap_host bootstrap_port bootstrap_room bos_token budget_tokens \
    bytes cache_control cache_creation cache_creation_input_tokens cache_prompt cache_read_input_tokens \
    cache_salt cached cached_tokens candidateCount candidates candidatesTokenCount chat_template \
    chat_template_kwargs choices citations code completed_at completion completion_reason \
    completion_start_time completion_tokens completion_tokens_details const contains content content_block \
    content_filter_results content_index context_management continue_final_message conversation \
    create_new_file created created_at created_time custom_logit_processor data decoder_input_details \
    default defer_loading definitions delta dependencies description detail dimensions display_height_px \
    display_number display_width_px do_sample done done_reason download duration e2e_latency echo effort \
    else embedding embeddings enable_thinking encoding_format encrypted_content end_index enum \
    ephemeral_1h_input_tokens ephemeral_5m_input_tokens error eval_count eval_duration event eventId \
    examples exclude exclusiveMaximum exclusiveMinimum extra_body extra_body_params file file_data file_id \
    file_url filename finishReason finish_reason flagged format frequency_penalty function functionCall \
    functionCallingConfig functionDeclarations functionResponse function_call functions generatedText \
    generated_text generated_tokens generationConfig grammar guided_choice guided_decoding_backend \
    guided_grammar guided_json guided_regex id ids if ignore_eos image image_data image_token image_url \
    images include include_reasoning include_stop_str_in_output include_usage incomplete_details index \
    inlineData inline_data input input_audio input_ids input_schema input_tokens input_tokens_details \
    input_type inputs instances instructions is_error item item_id items json_schema keep_alive \
    kv_transfer_params language length_penalty level load_duration logit_bias logprob logprobs \
    logprobs_result lora lora_path max maxItems maxLength maxOutputTokens max_completion_tokens \
    max_model_len max_new_tokens max_output_tokens max_prompt_tokens max_tokens max_tool_calls maximum \
    mcp_servers mean_time media_type message message_id messages meta_info metadata method mimeType \
    mime_type min minItems minLength min_p min_tokens minimum mirostat mirostat_eta mirostat_tau \
    mm_processor_kwargs modalities mode model modelVersion model_extra models multi_modal_data n n_keep \
    n_predict n_probs name native_finish_reason not nullable num_ctx num_gpu num_predict \
    num_return_sequences num_thread obfuscation object object_id offset oneOf options original_size output \
    output_ids output_index output_text output_tokens output_tokens_details outputs owned_by \
    parallel_tool_calls param parameters params parent part partial_json parts pattern patternProperties \
    penalize_newline pending perf permission phase predicted_ms predicted_n predicted_per_second \
    predicted_per_token_ms prediction predictions prefix prefixItems presence_penalty previous_response_id \
    priority prompt promptFeedback promptTokenCount prompt_cache_key prompt_eval_count prompt_eval_duration \
    prompt_filter_results prompt_logprobs prompt_ms prompt_n prompt_per_second prompt_per_token_ms \
    prompt_token_ids prompt_tokens prompt_tokens_details properties propertyNames provider quality raw \
    reason reasoning reasoning_content reasoning_effort reasoning_tokens redacted_thinking refusal regex \
    rejected_prediction_tokens repeat_last_n repeat_penalty repetition_penalty request_id request_type \
    required response responseMimeType responseSchema response_format responses result results \
    return_full_text return_hidden_states return_logprob return_text_in_logprobs return_tokens_as_token_ids \
    rid role root safe_prompt safetyRatings safetySettings safety_identifier sampling_params schema score \
    scores seed sequence_number server_tool_use service_tier session_id session_params signature size \
    skip_special_tokens slot_id source spaces_between_special_tokens speculative start_index status stop \
    stopSequences stop_reason stop_sequence stop_sequences stop_token_ids stop_type store strategy stream \
    stream_interval stream_options strict string structured_outputs suffix summary system systemInstruction \
    system_fingerprint task temperature temperature_last text textOutput text_offset tfs_z then thinking \
    thinkingConfig thinking_budget thoughtSignature thoughts_token_count time_info timings title token \
    token_ids token_logprobs tokens tokens_cached tokens_evaluated tokens_predicted toolConfig tool_call_id \
    tool_calls tool_choice tool_plan tool_result tool_use tool_use_id tools topK topP top_k top_logprobs \
    top_n_tokens top_p totalTokenCount total_duration total_tokens transcript truncate \
    truncate_prompt_tokens truncated truncation type typical_p ui uniqueItems url usage usageMetadata \
    use_beam_search user user_location values verbosity version video video_url voice warnings watermark \
    web_search_options weight weight_version worker_id ";
