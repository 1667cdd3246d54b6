//! What the model answers: a pure function of the request and the seed. When it says it, is `engine.rs`.

use std::borrow::Cow;

use super::ask::{Ask, Tool};
use super::chance::Chance;
use super::options::SimulateOptions;
use super::words::Teller;

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// For each prompt the choices asked for, one after another.
    pub choices: Vec<Choice>,
}

/// One choice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Its tokens.
    pub tokens: Vec<Token>,
    /// Why it ended.
    pub finish: Finish,
}

/// One token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Token {
    /// A piece of reasoning.
    Reasoning(Cow<'static, str>),
    /// A piece of the text.
    Text(Cow<'static, str>),
    /// A tool call begins.
    Call {
        /// Its id.
        id: String,
        /// The tool's name.
        name: String,
    },
    /// A piece of the call's arguments.
    Arguments(String),
}

/// Why a choice ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// The model had said all.
    Stop,
    /// The request's bound, or the context's.
    Length,
    /// A tool is to be called.
    ToolCalls,
}

/// Returns the answer to `ask`: the same whenever and however often it is asked.
#[must_use]
pub fn answer(ask: &Ask, options: &SimulateOptions) -> Answer {
    let choices = ask
        .prompts
        .iter()
        .flat_map(|prompt| (0..ask.n).map(move |_| *prompt))
        .zip(0_u64..)
        .map(|(prompt, index)| choice(ask, prompt, index, options))
        .collect();
    Answer { choices }
}

fn choice(ask: &Ask, prompt_tokens: u64, index: u64, options: &SimulateOptions) -> Choice {
    let chance = |purpose: &str| {
        let subject = [&ask.digest[..], &index.to_le_bytes()].concat();
        Chance::new(options.seed, purpose, &subject)
    };
    let room = options.context_tokens.saturating_sub(prompt_tokens).max(1);
    let most = ask.max_tokens.unwrap_or(u64::MAX).min(room);
    let mut tokens = Vec::new();
    let mut finish = Finish::Stop;
    if ask.kind == super::ask::Kind::Chat && options.reasoning_tokens > 0 {
        let length = length(options.reasoning_tokens, &mut chance("reasoning length"));
        let mut teller = Teller::new(chance("reasoning"));
        tokens.extend((0..length.min(most)).map(|_| Token::Reasoning(teller.token())));
    }
    if let Some(tool) = &ask.tool {
        tokens.extend(call(tool, &mut chance("call")));
        finish = Finish::ToolCalls;
    } else {
        let mut wanted = length(options.output_tokens, &mut chance("length")).max(ask.min_tokens);
        if ask.ignore_eos && ask.max_tokens.is_some() {
            wanted = most;
        }
        let said = tokens.len() as u64;
        text(
            &mut tokens,
            wanted.min(most.saturating_sub(said)),
            &mut Teller::new(chance("text")),
            &ask.stop,
        );
        let is_stopped = (tokens.len() as u64) < said + wanted.min(most.saturating_sub(said));
        if !is_stopped && (said + wanted > most || ask.ignore_eos && ask.max_tokens.is_some()) {
            finish = Finish::Length;
        }
    }
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    if tokens.len() > most {
        tokens.truncate(most);
        finish = Finish::Length;
    }
    Choice { tokens, finish }
}

/// Appends up to `count` tokens of text: fewer when one of `stops` comes up, which is left out.
fn text(tokens: &mut Vec<Token>, count: u64, teller: &mut Teller, stops: &[String]) {
    let first = tokens.len();
    let mut told = String::new();
    let longest = stops.iter().map(String::len).max().unwrap_or(0);
    for _ in 0..count {
        let token = teller.token();
        let from = told.floor_char_boundary((told.len() + 1).saturating_sub(longest.max(1)));
        told.push_str(&token);
        tokens.push(Token::Text(token));
        let found = stops
            .iter()
            .filter(|stop| !stop.is_empty())
            .filter_map(|stop| told[from..].find(&**stop));
        let Some(end) = found.min().map(|at| from + at) else { continue };
        let mut length = told.len();
        while length > end && tokens.len() > first {
            let Some(Token::Text(last)) = tokens.pop() else { return };
            length -= last.len();
            if length < end {
                tokens.push(Token::Text(Cow::Owned(last[..end - length].to_owned())));
                return;
            }
        }
        return;
    }
}

/// Returns a length with this mean: 1 or more, skewed as real answers are.
fn length(mean: u64, chance: &mut Chance) -> u64 {
    let step = chance.below(QUANTILES.len() - 1);
    let (low, high) = (QUANTILES[step], QUANTILES[step + 1]);
    let within = u64::from(chance.bits() >> 16);
    let thousandths = low + (((high - low) * within) >> 16);
    (mean.saturating_mul(thousandths) / 1_000).max(1)
}

/// Returns the tokens of a call to `tool`, with arguments that fit its parameters.
fn call(tool: &Tool, chance: &mut Chance) -> Vec<Token> {
    let mut arguments = serde_json::Map::new();
    for (name, kind) in &tool.parameters {
        let value = match kind.as_str() {
            "integer" | "number" => chance.below(100).into(),
            "boolean" => chance.one_in(1, 2).into(),
            "array" => serde_json::Value::Array(Vec::new()),
            "object" => serde_json::Value::Object(serde_json::Map::new()),
            "null" => serde_json::Value::Null,
            _ => {
                let mut teller = Teller::new(Chance::new(0, name, &chance.bits().to_le_bytes()));
                let words: String = (0..3).map(|_| teller.token()).collect();
                words.into()
            }
        };
        arguments.insert(name.clone(), value);
    }
    let id = format!("call_{:08x}{:08x}", chance.bits(), chance.bits());
    let text = serde_json::Value::Object(arguments).to_string();
    let pieces: Vec<char> = text.chars().collect();
    let pieces =
        pieces.chunks(ARGUMENT_TOKEN).map(|piece| Token::Arguments(piece.iter().collect()));
    std::iter::once(Token::Call { id, name: tool.name.clone() }).chain(pieces).collect()
}

// === impl Answer ===

impl Answer {
    /// Returns the tokens of all choices.
    #[must_use]
    pub fn tokens(&self) -> u64 {
        self.choices.iter().map(|choice| choice.tokens.len() as u64).sum()
    }

    /// Returns the length of the longest choice: how many steps it takes to say it.
    #[must_use]
    pub fn steps(&self) -> usize {
        self.choices.iter().map(|choice| choice.tokens.len()).max().unwrap_or(0)
    }

    /// Returns the tokens of reasoning in all choices.
    #[must_use]
    pub fn reasoning_tokens(&self) -> u64 {
        let tokens = self.choices.iter().flat_map(|choice| &choice.tokens);
        tokens.filter(|token| matches!(token, Token::Reasoning(_))).count() as u64
    }
}

// === impl Finish ===

impl Finish {
    /// Returns its name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::ToolCalls => "tool_calls",
        }
    }
}

/// Sixteenths of a log-normal distribution (sigma 0.6) in thousandths of its mean, the ends drawn in to 0.5 % and 99 %,
/// scaled so that straight lines between them have that mean. A table, since `exp` is not the same on every machine.
const QUANTILES: [u64; 17] =
    [178, 334, 420, 492, 558, 624, 691, 761, 837, 920, 1013, 1122, 1254, 1425, 1669, 2101, 3379];

/// Characters of a call's arguments in one token.
const ARGUMENT_TOKEN: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::ask::Kind;

    fn ask(more: &str) -> Ask {
        let body = format!(r#"{{"messages":[{{"role":"user","content":"Hello"}}]{more}}}"#);
        Ask::parse(Kind::Chat, body.as_bytes()).unwrap()
    }

    fn say(more: &str) -> Answer {
        answer(&ask(more), &SimulateOptions::default())
    }

    fn words(choice: &Choice) -> String {
        choice
            .tokens
            .iter()
            .map(|token| match token {
                Token::Text(text) | Token::Reasoning(text) => &**text,
                Token::Arguments(text) => text,
                Token::Call { name, .. } => name,
            })
            .collect()
    }

    #[test]
    fn the_same_request_gets_the_same_answer() {
        assert_eq!(say(""), say(r#","stream":true"#));
        assert_ne!(say(""), say(r#","seed":1"#));
        let other = SimulateOptions { seed: 1, ..SimulateOptions::default() };
        assert_ne!(say(""), answer(&ask(""), &other));
    }

    #[test]
    fn a_shorter_answer_begins_as_the_longer_one() {
        let (short, long) = (say(r#","max_tokens":5"#), say(r#","max_tokens":9"#));
        assert_eq!(short.choices[0].tokens, long.choices[0].tokens[..5]);
        assert_eq!(short.choices[0].finish, Finish::Length);
    }

    #[test]
    fn lengths_keep_to_their_bounds() {
        let lengths = |more: &str| {
            let choice = &say(more).choices[0];
            (choice.tokens.len(), choice.finish)
        };
        assert_eq!(lengths(r#","max_tokens":700,"ignore_eos":true"#), (700, Finish::Length));
        assert_eq!(lengths(r#","min_tokens":900"#), (900, Finish::Stop));
        assert_eq!(lengths(r#","min_tokens":900,"max_tokens":20"#), (20, Finish::Length));
        let small = SimulateOptions { context_tokens: 20, ..SimulateOptions::default() };
        let choice = &answer(&ask(r#","min_tokens":50"#), &small).choices[0];
        assert_eq!(
            (choice.tokens.len(), choice.finish),
            (14, Finish::Length),
            "6 are the prompt's"
        );
    }

    #[test]
    fn natural_lengths_have_their_mean() {
        let mut chance = Chance::new(1, "test", b"");
        let lengths: Vec<u64> = (0..20_000).map(|_| length(200, &mut chance)).collect();
        let mean = lengths.iter().sum::<u64>() / 20_000;
        assert!((195..205).contains(&mean), "{mean}");
        assert!(lengths.iter().all(|length| (30..700).contains(length)));
    }

    #[test]
    fn stops_are_left_out() {
        let whole = words(&say(r#","min_tokens":200"#).choices[0]);
        for stop in [". ", ",", "e", "ough", "\n\n"] {
            let Some(end) = whole.find(stop) else { continue };
            let stopped = say(&format!(r#","min_tokens":200,"stop":{}"#, serde_json::json!(stop)));
            assert_eq!(words(&stopped.choices[0]), whole[..end], "{stop:?}");
            assert_eq!(stopped.choices[0].finish, Finish::Stop);
        }
    }

    #[test]
    fn choices_differ() {
        let answer = say(r#","n":3"#);
        assert_eq!(answer.choices.len(), 3);
        assert_ne!(words(&answer.choices[0]), words(&answer.choices[1]));
        assert_eq!(words(&answer.choices[0]), words(&say("").choices[0]));
    }

    #[test]
    fn a_tool_call_fits_its_parameters() {
        let answer = say(
            r#","tools":[{"function":{"name":"look","parameters":{"properties":{"city":{"type":"string"},"days":{"type":"integer"}}}}}]"#,
        );
        let choice = &answer.choices[0];
        assert_eq!(choice.finish, Finish::ToolCalls);
        assert!(matches!(&choice.tokens[0], Token::Call { name, .. } if name == "look"));
        let arguments: serde_json::Value =
            serde_json::from_str(words(choice).strip_prefix("look").unwrap()).unwrap();
        assert!(arguments["city"].is_string() && arguments["days"].is_u64(), "{arguments}");
    }

    #[test]
    fn reasoning_comes_first_where_it_is_wanted() {
        let options = SimulateOptions { reasoning_tokens: 20, ..SimulateOptions::default() };
        let answer = answer(&ask(""), &options);
        assert!(answer.reasoning_tokens() > 0);
        assert!(matches!(answer.choices[0].tokens[0], Token::Reasoning(_)));
        assert!(matches!(answer.choices[0].tokens.last(), Some(Token::Text(_))));
    }
}
