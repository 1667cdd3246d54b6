//! Beginning HTTP on an open connection.

use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};

use crate::http::error::{SendError, classify, describe};
use crate::http::intake::{Intake, IntakeIo};
use crate::http::options::ClientOptions;
use crate::http::pool::{Pooled, Shared};
use crate::http::stream::Stream;

/// Begins HTTP/1.1 on a stream.
pub(super) async fn shake_h1(
    stream: Stream,
    id: u64,
    options: &ClientOptions,
) -> Result<Pooled, SendError> {
    let (read, intake) = (stream.bytes_read(), Intake::default());
    let io = IntakeIo::new(stream, intake.clone());
    let (sender, driver) = http1::Builder::new()
        .preserve_header_case(options.preserve_header_case)
        .max_headers(options.max_headers)
        .max_header_size(usize::try_from(options.max_header_bytes).unwrap_or(usize::MAX))
        .handshake(TokioIo::new(io))
        .await
        .map_err(|error| SendError::unsent(classify(&error), describe(&error)))?;
    Ok(Pooled::new(sender, driver, read, intake, id))
}

/// Begins HTTP/2 on a stream, and has a task drive it.
pub(super) async fn shake_h2(
    stream: Stream,
    id: u64,
    options: &ClientOptions,
) -> Result<Shared, SendError> {
    let read = stream.bytes_read();
    let (sender, driver) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(H2_STREAM_WINDOW)
        .initial_connection_window_size(H2_CONNECTION_WINDOW)
        .max_header_list_size(options.max_header_bytes)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| SendError::unsent(classify(&error), describe(&error)))?;
    tokio::spawn(async move {
        // Its error reaches each exchange on it.
        let _ended = driver.await;
    });
    Ok(Shared { sender, read, id })
}

/// How much of one HTTP/2 response may be on its way before its reader asks for more.
const H2_STREAM_WINDOW: u32 = 1 << 20;
/// The same for all responses on a connection.
const H2_CONNECTION_WINDOW: u32 = 16 << 20;
