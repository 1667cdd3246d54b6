//! What a trace's header says of the policy that it was made by.

use std::fmt::Write as _;

use bincode::de::Decoder;
use bincode::enc::Encoder;
use bincode::error::{DecodeError, EncodeError};
use bincode::{Decode, Encode};

/// The policy that decided what is in a trace, in short. Which names were redacted stands beside it in the header.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct PolicyMark {
    /// Of the policy, all of it: equal for equal policies.
    pub digest: [u8; 32],
    /// What is kept of bodies: the code of a [`BodyMode`], or one of a newer version's.
    pub bodies: u8,
    /// Whether all header fields were replaced but for those allowed.
    pub only_allowed_headers: bool,
    /// The same of query parameters.
    pub only_allowed_parameters: bool,
    /// How many places in JSON were replaced.
    pub pointers: u32,
    /// How many expressions were looked for, whose matches were replaced.
    pub patterns: u32,
}

/// A mark in a header, as an option; one that is written in another way, by a version to come, is none.
pub(super) struct WirePolicy(pub(super) Option<PolicyMark>);

/// What is kept of bodies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BodyMode {
    /// All of them.
    #[default]
    Full = 0,
    /// Their shape: texts and images are replaced by stand-ins of the same length.
    Shape = 1,
    /// Lengths and times, and of prompts which begin alike.
    Hash = 2,
    /// Lengths and times.
    None = 3,
}

// === impl PolicyMark ===

impl PolicyMark {
    /// Returns what is kept of bodies; none if a newer version has to be asked.
    #[must_use]
    pub fn mode(&self) -> Option<BodyMode> {
        BodyMode::ALL.into_iter().find(|mode| mode.code() == self.bodies)
    }

    /// Returns the mark of a trace that was made by the policy of `first`, and then by this one.
    #[must_use]
    pub fn after(self, first: &Self) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("reenact privacy policies 1");
        hasher.update(&first.digest).update(&self.digest);
        Self {
            digest: *hasher.finalize().as_bytes(),
            // Each mode keeps less than the one before it.
            bodies: self.bodies.max(first.bodies),
            only_allowed_headers: self.only_allowed_headers || first.only_allowed_headers,
            only_allowed_parameters: self.only_allowed_parameters || first.only_allowed_parameters,
            pointers: self.pointers.saturating_add(first.pointers),
            patterns: self.patterns.saturating_add(first.patterns),
        }
    }

    /// Returns the policy in words.
    #[must_use]
    pub fn describe(&self) -> String {
        let mode = self.mode().map_or("of a newer version", BodyMode::as_str);
        let mut words = format!("bodies {mode}");
        // Writing to a String cannot fail.
        if self.pointers > 0 {
            let _ = write!(words, ", {} pointer(s)", self.pointers);
        }
        if self.patterns > 0 {
            let _ = write!(words, ", {} pattern(s)", self.patterns);
        }
        if self.only_allowed_headers {
            words += ", only headers that are allowed";
        }
        if self.only_allowed_parameters {
            words += ", only query parameters that are allowed";
        }
        let digest: String = self.digest[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        words + "; policy " + &digest
    }
}

// === impl BodyMode ===

impl BodyMode {
    /// All modes, in the order of their codes.
    pub const ALL: [Self; 4] = [Self::Full, Self::Shape, Self::Hash, Self::None];

    /// Returns its name in flags and policies.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Shape => "shape",
            Self::Hash => "hash",
            Self::None => "none",
        }
    }

    /// Returns its number in the file.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }
}

impl std::str::FromStr for BodyMode {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|mode| mode.as_str() == name);
        let names = Self::ALL.map(Self::as_str).join(", ");
        found.ok_or_else(|| format!("`{name}` is no mode for bodies; there are {names}"))
    }
}

// === impl WirePolicy ===

impl Encode for WirePolicy {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        self.0.encode(encoder)
    }
}

impl<Context> Decode<Context> for WirePolicy {
    fn decode<D: Decoder<Context = Context>>(decoder: &mut D) -> Result<Self, DecodeError> {
        Ok(Self(match u8::decode(decoder)? {
            1 => Some(PolicyMark::decode(decoder)?),
            _ => None,
        }))
    }
}

bincode::impl_borrow_decode!(WirePolicy);
