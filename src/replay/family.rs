//! Families of servers, as far as lengths of outputs go, and their names.

use std::fmt;
use std::str::FromStr;

/// A family of servers, as far as lengths go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Family {
    /// By the request's own API; for OpenAI's, what vLLM, SGLang and llama.cpp understand.
    #[default]
    Auto,
    /// llama.cpp's server.
    LlamaCpp,
    /// Ollama.
    Ollama,
    /// SGLang.
    Sglang,
    /// Hugging Face's text-generation-inference.
    Tgi,
    /// vLLM.
    Vllm,
}

/// A text that is no [`Family`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no family of servers: say auto, vllm, sglang, tgi, llamacpp or ollama")]
pub struct NoFamily(String);

// === impl Family ===

impl FromStr for Family {
    type Err = NoFamily;

    fn from_str(text: &str) -> Result<Self, NoFamily> {
        [Self::Auto, Self::LlamaCpp, Self::Ollama, Self::Sglang, Self::Tgi, Self::Vllm]
            .into_iter()
            .find(|family| family.to_string() == text)
            .ok_or_else(|| NoFamily(text.to_owned()))
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::LlamaCpp => "llamacpp",
            Self::Ollama => "ollama",
            Self::Sglang => "sglang",
            Self::Tgi => "tgi",
            Self::Vllm => "vllm",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_named_as_on_the_command_line() {
        for name in ["auto", "vllm", "sglang", "tgi", "llamacpp", "ollama"] {
            assert_eq!(name.parse::<Family>().unwrap().to_string(), name);
        }
        assert!("gpt".parse::<Family>().unwrap_err().to_string().contains("vllm"));
    }
}
