//! The upstream of `overhead.rs`: a server that answers from fixed bytes.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Bytes of one streamed chunk, as an SSE event of a token is long.
const CHUNK_BYTES: usize = 196;
/// Chunks in one streamed answer.
pub(crate) const CHUNKS: usize = 500;
/// Chunks that the upstream hands to the kernel at once in a burst; a server that streams tokens sends one.
pub(crate) const BURST: usize = 4;
/// How a unary answer ends, and nothing in it before.
pub(crate) const UNARY_END: &str = r#""completion_tokens":40,"total_tokens":108}}"#;

/// Serves on a free port, which it prints, until the process ends.
pub(crate) async fn serve() -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?.port());
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(async move { drop(answer(stream).await) });
    }
}

/// Answers each request on a connection; the path says how.
async fn answer(mut stream: TcpStream) -> anyhow::Result<()> {
    let body = completion();
    let unary = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let head =
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    let (single, bursts) = (pieces(1), pieces(BURST));
    let mut buffer = Vec::new();
    loop {
        let Some(path) = read_request(&mut stream, &mut buffer).await? else { return Ok(()) };
        match path.as_str() {
            "/stream" | "/burst" => {
                stream.write_all(head.as_bytes()).await?;
                for piece in if path == "/stream" { &single } else { &bursts } {
                    stream.write_all(piece).await?;
                    tokio::task::yield_now().await;
                }
                stream.write_all(b"0\r\n\r\n").await?;
            }
            "/slow" => {
                stream.write_all(head.as_bytes()).await?;
                loop {
                    tokio::time::sleep(Duration::from_millis(500)).await;
                    stream.write_all(&single[0]).await?;
                }
            }
            _ => stream.write_all(unary.as_bytes()).await?,
        }
    }
}

/// Returns the body of a unary answer.
fn completion() -> String {
    let start = r#"{"id":"chatcmpl-8Xw0JXbPqTzvN2","object":"chat.completion","created":1764000000,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":""#;
    let text = "A word of it here, ".repeat(8);
    format!(
        r#"{start}{text}"}},"finish_reason":"stop"}}],"usage":{{"prompt_tokens":68,{UNARY_END}"#
    )
}

/// Returns the pieces of a streamed answer: events of a chat model, a word each, `chunks` of them in a piece.
fn pieces(chunks: usize) -> Vec<Vec<u8>> {
    const WORDS: &str = "the of and to in is it that for on with as was at by this be from or an are not have you we";
    let events = WORDS.split(' ').cycle().take(CHUNKS).enumerate().map(|(number, word)| {
        let start = r#"data: {"id":"chatcmpl-8Xw0JXbPqTzvN2","object":"chat.completion.chunk","created":1764000000,"model":"m","choices":[{"index":0,"delta":{"content":""#;
        let end = r#""},"finish_reason":null}]}"#;
        let filler = CHUNK_BYTES - start.len() - end.len() - 2;
        let event = format!("{start}{:<filler$}{end}\n\n", format!("{word} {}", number * number));
        format!("{:x}\r\n{event}\r\n", event.len()).into_bytes()
    });
    events.collect::<Vec<_>>().chunks(chunks).map(<[_]>::concat).collect()
}

/// Reads one request with its body and returns its path, or none when the peer has left.
async fn read_request(
    stream: &mut TcpStream,
    buffer: &mut Vec<u8>,
) -> anyhow::Result<Option<String>> {
    loop {
        let end = buffer.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4);
        if let Some(end) = end {
            let head = String::from_utf8_lossy(&buffer[..end]).to_lowercase();
            let length =
                head.lines().find_map(|line| line.strip_prefix("content-length:")).unwrap_or("0");
            let whole = end + length.trim().parse::<usize>()?;
            if buffer.len() >= whole {
                buffer.drain(..whole);
                return Ok(head.split(' ').nth(1).map(str::to_owned));
            }
        }
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
}
