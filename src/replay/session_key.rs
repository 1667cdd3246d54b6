//! What tells sessions apart, as it is asked for.

use std::fmt;
use std::str::FromStr;

use http::{HeaderMap, HeaderName};

use crate::dialect::{self, Ties};

/// What tells sessions apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionKey {
    /// The `conversation` that the body names.
    Conversation,
    /// The first value of this header.
    Header(HeaderName),
    /// The messages, which grow from turn to turn.
    Messages,
    /// The response that a request goes on from (`previous_response_id`).
    Previous,
    /// One of the usual headers (`x-session-id` and the like).
    UsualHeader,
    /// The `user` that the body names.
    User,
}

/// What tells sessions apart: the first of these that an exchange has. None: every exchange stands alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionKeys {
    /// The first that an exchange has counts.
    pub(super) list: Vec<SessionKey>,
    text: String,
}

/// A text that is no session key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no session key: say auto, none, header:NAME, conversation, previous_response_id, messages or user, or several \
     with commas, the first that an exchange has counts"
)]
pub struct SessionKeyError(String);

/// Which key a name comes from: a user and a conversation may have the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Conversation,
    Header,
    User,
}

// === impl SessionKeys ===

impl SessionKeys {
    /// Returns whether no session is looked for.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.list.is_empty()
    }

    /// Returns whether these keys were chosen: a trace in which none of them finds anything is then an error.
    #[must_use]
    pub fn is_chosen(&self) -> bool {
        !self.is_none() && *self != Self::default()
    }
}

impl Default for SessionKeys {
    /// Returns `auto`.
    fn default() -> Self {
        use SessionKey::{Conversation, Messages, Previous, User, UsualHeader};
        let keys = vec![UsualHeader, Conversation, Previous, Messages, User];
        Self { list: keys, text: "auto".to_owned() }
    }
}

impl FromStr for SessionKeys {
    type Err = SessionKeyError;

    fn from_str(text: &str) -> Result<Self, SessionKeyError> {
        match text {
            "auto" => Ok(Self::default()),
            "none" => Ok(Self { list: Vec::new(), text: text.to_owned() }),
            _ => {
                let keys = text.split(',').map(str::parse).collect::<Result<_, _>>()?;
                Ok(Self { list: keys, text: text.to_owned() })
            }
        }
    }
}

impl fmt::Display for SessionKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

// === impl SessionKey ===

impl FromStr for SessionKey {
    type Err = SessionKeyError;

    fn from_str(text: &str) -> Result<Self, SessionKeyError> {
        let wrong = || SessionKeyError(text.to_owned());
        match text.trim() {
            "conversation" => Ok(Self::Conversation),
            "messages" => Ok(Self::Messages),
            "previous_response_id" => Ok(Self::Previous),
            "user" => Ok(Self::User),
            text => match text.split_once(':') {
                Some(("header", name)) => name.parse().map(Self::Header).map_err(|_| wrong()),
                _ => Err(wrong()),
            },
        }
    }
}

impl SessionKey {
    /// Returns the name that an exchange has by this key; none for the keys that give no name.
    pub(super) fn name(&self, headers: &HeaderMap, ties: &Ties) -> Option<(Kind, String)> {
        match self {
            Self::Conversation => Some((Kind::Conversation, ties.conversation.clone()?)),
            Self::Header(name) => {
                let value = headers.get(name)?.to_str().ok()?.trim();
                (!value.is_empty()).then(|| (Kind::Header, value.to_owned()))
            }
            Self::UsualHeader => Some((Kind::Header, dialect::session_header(headers)?)),
            Self::User => Some((Kind::User, ties.user.clone()?)),
            Self::Messages | Self::Previous => None,
        }
    }
}
