//! Events in, events out: what may be in a trace by a policy.

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};

use http::{HeaderMap, HeaderValue, Method, StatusCode};

use crate::privacy::body::{Body, Idle, Rules, in_fields};
use crate::privacy::draw::Draw;
use crate::privacy::patterns::{More, Patterns, Scanner};
use crate::privacy::policy::{Policy, PolicyError};
use crate::privacy::prompt::PromptReader;
use crate::privacy::template::MAX_TEMPLATE;
use crate::privacy::text::{Keys, Texts};
use crate::trace::Lost;
use crate::trace::record::{
    BareFrame, BodyMode, End, Event, ExchangeId, FramesRef, PackedHead, RequestHead, ResponseHead,
    Side, Span,
};

/// Replaces what a policy does not let into a trace, in heads and bodies.
///
/// Frames keep their times and lengths, and the order that they have on their side. A frame may be handed on later than it
/// came, when what is in it is decided by what follows; never later than the trailers of its side and the end of its
/// exchange. Of one body at most one event (16 MiB), one file in base64 (32 MiB), or else some KiB are held.
pub struct Veil {
    /// None: the policy touches no body.
    rules: Option<Rules>,
    /// When there, prompts are read for what is to be known of them.
    prompt_key: Option<[u8; 32]>,
    bodies: BTreeMap<ExchangeId, Bodies>,
}

/// What of an exchange is on its way.
struct Bodies {
    request: Body,
    response: Body,
    /// In a box, since it is large and mostly not there.
    prompt: Option<Box<PromptReader>>,
    connects: bool,
}

// === impl Veil ===

impl Veil {
    /// Makes one of a policy; replacements follow from `key`.
    ///
    /// # Errors
    /// The policy has what is no pointer, or no regular expression.
    pub fn new(policy: &Policy, key: &[u8; 32]) -> Result<Self, PolicyError> {
        let pointers = policy.pointers()?;
        let patterns = Patterns::new(&policy.bodies.patterns, policy.bodies.look_behind)?;
        let texts = match policy.bodies.mode {
            BodyMode::Full => Texts::Stay,
            BodyMode::Shape => Texts::Shape,
            BodyMode::Hash | BodyMode::None => Texts::Closed,
        };
        let rules = Rules {
            keys: Keys::new(key),
            pointers,
            patterns,
            texts,
            longest_template: MAX_TEMPLATE,
            idle: Idle::default(),
        };
        let rules = policy.touches_bodies().then_some(rules);
        let prompt_key = (policy.bodies.mode == BodyMode::Hash).then_some(*key);
        Ok(Self { rules, prompt_key, bodies: BTreeMap::new() })
    }

    /// Returns whether events pass as they are.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.rules.is_none()
    }

    /// Takes an event and appends to `out` what is decided by it: frames that were held, then the event, unless it is a
    /// frame that is held.
    pub fn event(&mut self, mut event: Event, out: &mut VecDeque<Event>) {
        let Some(rules) = &mut self.rules else {
            out.push_back(event);
            return;
        };
        if rules.patterns.is_some() || self.prompt_key.is_some() {
            event.unpack();
        }
        match &mut event {
            Event::Frame(frame) => {
                self.frames(frame.as_ref().alone(&mut Span::default()), out);
                return;
            }
            Event::Bare(frame) => {
                if let Some(bodies) = self.bodies.get_mut(&frame.exchange) {
                    bodies.lose(rules, frame, out);
                }
            }
            Event::Request(head) => {
                let (connects, fields) = (head.method == Method::CONNECT, head.headers.iter());
                let mut bodies = Bodies::new(rules, head.exchange, connects, fields.map(in_fields));
                bodies.prompt = self.prompt_key.map(|key| Box::new(PromptReader::new(head, &key)));
                rules.request(head);
                self.bodies.insert(head.exchange, bodies);
            }
            Event::Response(head) => {
                if let Some(bodies) = self.bodies.get_mut(&head.exchange) {
                    if let Some(prompt) = &mut bodies.prompt {
                        prompt.response(head);
                    }
                    let fields = head.headers.iter().map(in_fields);
                    bodies.respond(rules, head.exchange, head.status, fields);
                }
                rules.response(head);
            }
            Event::Packed(head) => self.packed(head),
            Event::Interim(interim) => rules.headers(&mut interim.headers),
            Event::Trailers(trailers) => {
                if let Some(bodies) = self.bodies.get_mut(&trailers.exchange) {
                    bodies.of(trailers.side).finish(rules, out);
                }
                rules.headers(&mut trailers.headers);
            }
            Event::End(end) => {
                if let Some(bodies) = self.bodies.remove(&end.exchange) {
                    let prompt = bodies.finish(rules, out).map(|prompt| prompt.finish(end));
                    let prompt = prompt.filter(|prompt| prompt.bytes > 0);
                    out.extend(prompt.map(|prompt| Event::Prompt(Box::new(prompt))));
                }
                rules.end(end);
            }
            Event::Link(_) | Event::Gap(_) | Event::Omission(_) | Event::Prompt(_) => {}
        }
        out.push_back(event);
    }

    /// Takes a head in which nothing is to be replaced.
    fn packed(&mut self, head: &PackedHead) {
        let Some(rules) = &mut self.rules else { return };
        let (id, (method, fields)) = (head.exchange, head.look());
        match head.status {
            None => {
                let connects = method == Some(Method::CONNECT.as_str());
                let bodies = Bodies::new(rules, id, connects, fields.into_iter());
                self.bodies.insert(id, bodies);
            }
            Some(status) => {
                if let Some(bodies) = self.bodies.get_mut(&id) {
                    bodies.respond(rules, id, status, fields.into_iter());
                }
            }
        }
    }

    /// Takes frames, as [`Self::event`] does.
    pub fn frames(&mut self, frames: FramesRef<'_>, out: &mut VecDeque<Event>) {
        let (exchange, side) = (frames.exchange, frames.side);
        let Some(rules) = &mut self.rules else {
            out.extend(frames.iter().map(|frame| Event::Frame(frame.to_frame())));
            return;
        };
        if let Some(bodies) = self.bodies.get_mut(&exchange) {
            if let Some(prompt) = &mut bodies.prompt {
                frames.iter().for_each(|frame| prompt.body(side, frame.data));
            }
            bodies.of(side).push(rules, frames.iter(), out);
        } else {
            // Its head is not known: nothing of it is told.
            Body::unknown(rules, exchange, side).push(rules, frames.iter(), out);
        }
    }

    /// Appends to `out` the frames that are held, as if each body had ended. For a trace that ends before its exchanges do.
    pub fn finish(&mut self, out: &mut VecDeque<Event>) {
        let Some(rules) = &mut self.rules else { return };
        for bodies in std::mem::take(&mut self.bodies).into_values() {
            bodies.finish(rules, out);
        }
    }

    /// Lets go of all that is held, and returns which frames that were. Of their exchanges nothing more is told of bodies.
    pub fn forget(&mut self) -> Lost {
        let mut lost = Lost::default();
        for (exchange, bodies) in std::mem::take(&mut self.bodies) {
            for (side, body) in [(Side::Request, bodies.request), (Side::Response, bodies.response)]
            {
                lost.add(exchange, side, body.held());
            }
        }
        lost
    }
}

impl std::fmt::Debug for Veil {
    /// Leaves the keys out.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Veil").field("open", &self.is_open()).finish_non_exhaustive()
    }
}

// === impl Bodies ===

impl Bodies {
    /// Begins with a request's head: whether its method is `CONNECT`, and its fields.
    fn new<'a>(
        rules: &mut Rules,
        exchange: ExchangeId,
        connects: bool,
        fields: impl Iterator<Item = (&'a str, &'a [u8])>,
    ) -> Self {
        let request = Body::new(rules, exchange, Side::Request, fields);
        let response = Body::unknown(rules, exchange, Side::Response);
        Self { request, response, prompt: None, connects }
    }

    /// Goes on with a response's head.
    fn respond<'a>(
        &mut self,
        rules: &mut Rules,
        exchange: ExchangeId,
        status: StatusCode,
        fields: impl Iterator<Item = (&'a str, &'a [u8])>,
    ) {
        if status == StatusCode::SWITCHING_PROTOCOLS || self.connects && status.is_success() {
            self.request.close();
        } else {
            self.response = Body::new(rules, exchange, Side::Response, fields);
        }
    }

    /// Takes note that bytes of a body are not known: nothing of it is told that depends on them.
    fn lose(&mut self, rules: &mut Rules, frame: &BareFrame, out: &mut VecDeque<Event>) {
        if let Some(prompt) = &mut self.prompt {
            prompt.lose(frame.side, frame.len);
        }
        // Also one of no bytes: what is held must not come after it.
        self.of(frame.side).lose(rules, out);
    }

    /// Ends both; returns what reads the prompt.
    fn finish(mut self, rules: &mut Rules, out: &mut VecDeque<Event>) -> Option<Box<PromptReader>> {
        self.request.finish(rules, out);
        self.response.finish(rules, out);
        self.prompt
    }

    fn of(&mut self, side: Side) -> &mut Body {
        match side {
            Side::Request => &mut self.request,
            Side::Response => &mut self.response,
        }
    }
}

// === impl Rules: heads ===

impl Rules {
    fn request(&mut self, head: &mut RequestHead) {
        self.text(&mut head.target);
        if let Some(authority) = &mut head.authority {
            self.text(authority);
        }
        self.headers(&mut head.headers);
    }

    fn response(&mut self, head: &mut ResponseHead) {
        if let Some(reason) = &mut head.reason {
            self.text(reason);
        }
        self.headers(&mut head.headers);
    }

    fn end(&mut self, end: &mut End) {
        if let Some(fault) = &mut end.fault {
            self.text(&mut fault.text);
        }
    }

    fn headers(&mut self, headers: &mut HeaderMap) {
        if self.patterns.is_none() {
            return;
        }
        for value in headers.values_mut() {
            if let Cow::Owned(bytes) = self.masked(value.as_bytes())
                && let Ok(masked) = HeaderValue::from_bytes(&bytes)
            {
                *value = masked;
            }
        }
    }

    fn text(&mut self, text: &mut String) {
        if let Cow::Owned(bytes) = self.masked(text.as_bytes()) {
            *text = String::from_utf8_lossy(&bytes).into_owned();
        }
    }

    /// Returns a text with the matches of patterns replaced.
    fn masked<'a>(&mut self, text: &'a [u8]) -> Cow<'a, [u8]> {
        let Some(patterns) = &mut self.patterns else { return Cow::Borrowed(text) };
        let mut found = Vec::new();
        Scanner::default().push(patterns, text, More::No, &mut found);
        let mut masked = Cow::Borrowed(text);
        for one in found {
            let place = |at: u64| usize::try_from(at).unwrap_or(0).min(text.len());
            let range = place(one.range.start)..place(one.range.end);
            Draw::new(&self.keys.hash, &[&one.seed]).fill_plain(&mut masked.to_mut()[range]);
        }
        masked
    }
}
