//! Requests to answers over HTTP.

use std::convert::Infallible;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, SERVER};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited, StreamBody};
use hyper::body::Incoming;
use serde_json::{Value, json};

use super::ask::{Ask, AskError, EmbeddingAsk, Kind, Stream};
use super::embedding;
use super::engine::{Engine, Generation};
use super::fault::{Fault, choose};
use super::stream::{Next, Saying};
use super::wire;
use crate::dialect::{Operation, request_facts};
use crate::http::outlet::Outlet;

/// A response's body.
pub(super) type Body = UnsyncBoxBody<Bytes, Broken>;

/// The fault that breaks a connection.
#[derive(Debug, thiserror::Error)]
#[error("a simulated fault breaks the connection")]
pub(super) struct Broken;

/// Why a request is refused.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error(transparent)]
    Ask(#[from] AskError),
    #[error("the model `{0}` does not exist")]
    NoModel(String),
    #[error("there is nothing at {0} {1}")]
    NoPath(Method, String),
    #[error("this model's maximum context length is {1} tokens, and the prompt has {0}")]
    TooLong(u64, u64),
    #[error("the body is larger than {MAX_BODY_BYTES} bytes")]
    TooLarge,
    #[error("the body broke off: {0}")]
    Unread(String),
    #[error("a simulated fault, drawn by seed and request")]
    Fault(StatusCode),
}

/// Answers one request.
pub(super) async fn serve(
    engine: Arc<Engine>,
    outlet: Outlet,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let mut response = match route(&engine, &outlet, request).await {
        Ok(response) => response,
        Err(refusal) => refusal.response(),
    };
    response.headers_mut().insert(SERVER, HeaderValue::from_static(NAME));
    Ok(response)
}

async fn route(
    engine: &Arc<Engine>,
    outlet: &Outlet,
    request: Request<Incoming>,
) -> Result<Response<Body>, Refusal> {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let operation = request_facts(&method, &path, &HeaderMap::new(), b"").operation;
    match (operation, &method, path.as_str()) {
        (Operation::Chat, ..) => complete(engine, outlet, Kind::Chat, &read(request).await?).await,
        (Operation::Completion, ..) => {
            complete(engine, outlet, Kind::Completion, &read(request).await?).await
        }
        (Operation::Embedding, ..) => embed(engine, &read(request).await?).await,
        (Operation::Models, ..) => models(engine, &path),
        (_, &Method::GET, "/metrics") => {
            Ok(whole(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", engine.page()))
        }
        (_, &Method::GET, "/health" | "/ping") => Ok(whole(StatusCode::OK, "text/plain", "")),
        (_, &Method::GET, "/version") => {
            let version = json!({"version": env!("CARGO_PKG_VERSION"), "server": NAME});
            Ok(json_response(StatusCode::OK, version.to_string()))
        }
        _ => Err(Refusal::NoPath(method, path)),
    }
}

async fn read(request: Request<Incoming>) -> Result<Bytes, Refusal> {
    match Limited::new(request.into_body(), MAX_BODY_BYTES).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Refusal::TooLarge),
        Err(error) => Err(Refusal::Unread(error.to_string())),
    }
}

async fn complete(
    engine: &Arc<Engine>,
    outlet: &Outlet,
    kind: Kind,
    body: &[u8],
) -> Result<Response<Body>, Refusal> {
    let mut ask = Ask::parse(kind, body)?;
    let context = engine.options.context_tokens;
    if let Some(longest) = ask.prompts.iter().copied().max().filter(|longest| *longest >= context) {
        return Err(Refusal::TooLong(longest, context));
    }
    if ask.model.is_empty() {
        ask.model = engine.options.models.first().cloned().unwrap_or_default();
    }
    let fault = choose(engine.options.seed, &engine.options.faults, body);
    if let Some(Fault::Status(status)) = fault {
        return Err(Refusal::Fault(status));
    }
    let saying = Saying::new(engine, &ask, fault);
    let id = HeaderValue::from_str(saying.id()).ok();
    let mut response = if ask.stream == Stream::No {
        unary(saying.whole().await, outlet)
    } else {
        streamed(saying, outlet)
    };
    if let Some(id) = id {
        response.headers_mut().insert("x-request-id", id);
    }
    Ok(response)
}

/// Returns the response of a stream: its pieces are made while it is read, and a client that leaves ends the generation.
fn streamed(saying: Saying, outlet: &Outlet) -> Response<Body> {
    let begun = Some((saying, outlet.clone()));
    let pieces = stream::unfold(begun, |begun| async {
        let (mut saying, outlet) = begun?;
        match saying.next().await {
            Next::Piece(piece) => Some((Ok(Frame::data(piece)), Some((saying, outlet)))),
            Next::End | Next::Cut => None,
            Next::Broken => {
                break_off(&outlet).await;
                Some((Err(Broken), None))
            }
        }
    });
    let mut response = Response::new(StreamBody::new(pieces).boxed_unsync());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

fn unary(answer: Result<Bytes, (Fault, Bytes)>, outlet: &Outlet) -> Response<Body> {
    let (fault, half) = match answer {
        Ok(text) => return json_response(StatusCode::OK, text),
        Err(broken) => broken,
    };
    let half = stream::iter([Ok(Frame::data(half))]);
    let outlet = outlet.clone();
    let rest = async move {
        break_off(&outlet).await;
        Err(Broken)
    };
    let rest = stream::iter((fault == Fault::Reset).then_some(rest)).then(|rest| rest);
    json_body(StatusCode::OK, StreamBody::new(half.chain(rest)).boxed_unsync())
}

/// Breaks the connection when the half that was said is on its way, so that the client sees it break, however late all of
/// this is.
async fn break_off(outlet: &Outlet) {
    let before = outlet.flushes();
    let flushed = poll_fn(|cx| outlet.poll_flushed(cx, before));
    // Over HTTP/2 nobody says when it has left.
    let _said = tokio::time::timeout(BREAK_PAUSE, flushed).await;
    tokio::time::sleep(BREAK_PAUSE).await;
    outlet.break_off();
}

async fn embed(engine: &Arc<Engine>, body: &[u8]) -> Result<Response<Body>, Refusal> {
    let ask = EmbeddingAsk::parse(body)?;
    if let Some(Fault::Status(status)) = choose(engine.options.seed, &engine.options.faults, body) {
        return Err(Refusal::Fault(status));
    }
    let tokens = ask.inputs.iter().map(|(tokens, _)| tokens).sum();
    let mut generation = Generation::new(engine);
    generation.first(tokens).await;
    let vectors = ask.inputs.iter().map(|(_, digest)| {
        let vector = embedding::vector(engine.options.seed, digest, ask.dimensions);
        if ask.base64 { Value::from(embedding::base64(&vector)) } else { json!(vector) }
    });
    let text = wire::embeddings(&ask.model, vectors.collect(), tokens);
    generation.finish(None);
    Ok(json_response(StatusCode::OK, text))
}

fn models(engine: &Engine, path: &str) -> Result<Response<Body>, Refusal> {
    let created = engine.unix_seconds();
    let models = &engine.options.models;
    let text = match path.split_once("/models/") {
        None => wire::models(models, created),
        Some((_, name)) if models.iter().any(|model| model == name) => {
            wire::model(name, created).to_string()
        }
        Some((_, name)) => return Err(Refusal::NoModel(name.to_owned())),
    };
    Ok(json_response(StatusCode::OK, text))
}

fn json_response(status: StatusCode, text: impl Into<Bytes>) -> Response<Body> {
    whole(status, "application/json", text)
}

fn whole(status: StatusCode, kind: &'static str, text: impl Into<Bytes>) -> Response<Body> {
    let body = Full::new(text.into()).map_err(|never| match never {}).boxed_unsync();
    let mut response = json_body(status, body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

fn json_body(status: StatusCode, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

// === impl Refusal ===

impl Refusal {
    fn status(&self) -> StatusCode {
        match self {
            Self::Ask(_) | Self::TooLong(..) | Self::Unread(_) => StatusCode::BAD_REQUEST,
            Self::NoModel(_) | Self::NoPath(..) => StatusCode::NOT_FOUND,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Fault(status) => *status,
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Ask(_) | Self::Unread(_) | Self::TooLarge => "invalid_request_error",
            Self::TooLong(..) => "context_length_exceeded",
            Self::NoModel(_) | Self::NoPath(..) => "not_found_error",
            Self::Fault(StatusCode::TOO_MANY_REQUESTS) => "rate_limit_error",
            Self::Fault(_) => "server_error",
        }
    }

    fn response(&self) -> Response<Body> {
        let status = self.status();
        let mut response =
            json_response(status, wire::error(status, self.kind(), &self.to_string()));
        if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

/// How the server names itself.
const NAME: &str = concat!("reenact-simulate/", env!("CARGO_PKG_VERSION"));
/// Time between a half answer that has left and the reset that follows it.
const BREAK_PAUSE: Duration = Duration::from_millis(5);
/// Largest request body.
const MAX_BODY_BYTES: usize = 256 << 20;
