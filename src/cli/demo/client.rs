//! The demo's clients: they send the workload and read the answers.

use std::sync::Arc;

use anyhow::Context as _;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full};
use tokio::task::JoinSet;

use super::workload::{self, Kind, LEAVES_AFTER, QUESTIONS, Visit};
use crate::clock::{Clock, Nanos};
use crate::dialect::{ResponseFacts, ResponseReader, request_facts};
use crate::http::{Client, ClientOptions};

/// What came back.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    /// Requests sent.
    pub(super) requests: usize,
    /// Those answered with a status of 400 or more.
    pub(super) refused: usize,
    /// Those left in the middle.
    pub(super) left: usize,
}

struct Clients {
    client: Client,
    clock: Clock,
}

/// An answer, read to its end or left.
struct Answer {
    status: u16,
    facts: ResponseFacts,
}

/// Sends the whole workload to `url`.
///
/// # Errors
/// A request that should be answered is not.
pub(super) async fn send_all(url: &str) -> anyhow::Result<Tally> {
    let clock = Clock::start();
    let client = Client::new(url.parse()?, ClientOptions::default(), clock);
    let clients = Arc::new(Clients { client, clock });
    let mut tasks = JoinSet::new();
    for visit in workload::visits() {
        let clients = Arc::clone(&clients);
        tasks.spawn(async move { clients.visit(&visit).await });
    }
    tasks.spawn(async move { clients.converse().await });
    let mut sum = Tally::default();
    while let Some(done) = tasks.join_next().await {
        let tally = done.context("a client of the demo broke down")??;
        sum.requests += tally.requests;
        sum.refused += tally.refused;
        sum.left += tally.left;
    }
    Ok(sum)
}

// === impl Clients ===

impl Clients {
    async fn visit(&self, visit: &Visit) -> anyhow::Result<Tally> {
        tokio::time::sleep_until(self.clock.instant(Nanos::ZERO + visit.at)).await;
        let leaves = visit.kind == Kind::ClientLeaves;
        let body = visit.body.as_ref().map(ToString::to_string);
        let events = if leaves { LEAVES_AFTER } else { usize::MAX };
        let answer = self.ask(visit.path, body, events).await?;
        let refused = answer.status >= 400;
        anyhow::ensure!(
            refused == (visit.kind == Kind::Refused),
            "{:?} was answered with {}: {:?}",
            visit.kind,
            answer.status,
            answer.facts.error
        );
        Ok(Tally { requests: 1, refused: usize::from(refused), left: usize::from(leaves) })
    }

    /// Asks question after question, each with all that was said before.
    async fn converse(&self) -> anyhow::Result<Tally> {
        let mut history = vec![workload::message("system", "You know the valley well.")];
        for (question, turn) in QUESTIONS.iter().zip(0_u64..) {
            let due = Nanos(400_000_000 + turn * 1_250_000_000);
            tokio::time::sleep_until(self.clock.instant(due)).await;
            history.push(workload::message("user", question));
            let body = workload::turn(&history).to_string();
            let answer = self.ask(workload::CHAT, Some(body), usize::MAX).await?;
            anyhow::ensure!(answer.facts.ended, "turn {turn} was answered with {}", answer.status);
            history.push(workload::message("assistant", &answer.facts.text));
        }
        Ok(Tally { requests: QUESTIONS.len(), ..Tally::default() })
    }

    /// Sends a request and reads up to so many events of its answer.
    async fn ask(&self, path: &str, body: Option<String>, events: usize) -> anyhow::Result<Answer> {
        let method = if body.is_some() { Method::POST } else { Method::GET };
        let body = Bytes::from(body.unwrap_or_default());
        let request = Request::builder()
            .method(method.clone())
            .uri(path)
            .header(USER_AGENT, "reenact-demo")
            // So that there is a credential to leave out of the trace.
            .header(AUTHORIZATION, "Bearer demo-key-that-no-trace-holds")
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(body.clone()))?;
        let said = request_facts(&method, path, request.headers(), &body);
        let response = self.client.send(request).await?;
        let (head, mut frames) = response.into_parts();
        let mut reader = ResponseReader::new(&said, head.status, &head.headers);
        let mut seen = 0;
        while seen < events {
            let Some(frame) = frames.frame().await else { break };
            if let Ok(data) = frame?.into_data() {
                seen += reader.push(&data).events as usize;
            }
        }
        Ok(Answer { status: head.status.as_u16(), facts: reader.finish(seen < events) })
    }
}
