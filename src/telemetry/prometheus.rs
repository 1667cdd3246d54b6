//! A server's metrics page in Prometheus' text format: vLLM, SGLang, TGI, llama.cpp, and DCGM for GPUs elsewhere.
//!
//! Every value is kept under the server's own name. What a line means is for queries to say.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http::header::ACCEPT;
use http_body_util::{BodyExt as _, Empty, Limited};
use tokio::runtime::{Builder, Runtime};

use crate::clock::Clock;
use crate::http::tls::{Trust, client_config};
use crate::http::{Client, ClientOptions, Origin, Scheme};
use crate::results::rows::{Sample, ServerMetric};

use super::sampler::{Source, Stamp};

/// One value of a page.
#[derive(Clone, Debug, PartialEq)]
pub struct Metric {
    /// Its name.
    pub name: String,
    /// Its labels, a JSON object with sorted keys.
    pub labels: String,
    /// Its value.
    pub value: f64,
}

/// Reads a page; returns its values in order, and the number of lines that are none.
///
/// The format: <https://prometheus.io/docs/instrumenting/exposition_formats/>. A time at the end of a line is left out.
#[must_use]
pub fn parse(page: &str) -> (Vec<Metric>, usize) {
    let mut metrics = Vec::new();
    let mut bad = 0;
    for line in page.lines().map(str::trim) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match metric(line) {
            Some(metric) => metrics.push(metric),
            None => bad += 1,
        }
    }
    (metrics, bad)
}

/// Makes a source of the page at `url`, whose path is `/metrics` where it names none.
///
/// # Errors
/// A sentence that says why it can't be scraped.
pub(super) fn find(
    url: &str,
    tls: Option<Arc<rustls::ClientConfig>>,
    clock: Clock,
) -> Result<Page, String> {
    let not = |why: String| format!("{url} is not scraped: {why}.");
    let mut origin: Origin = url.parse().map_err(|error| not(format!("{error}")))?;
    let tls = match (origin.scheme, tls) {
        (Scheme::Https, None) => {
            Some(client_config(&Trust::System).map_err(|error| not(format!("{error}")))?)
        }
        (_, tls) => tls,
    };
    let path = std::mem::take(&mut origin.prefix);
    let path = if path.is_empty() { "/metrics".to_owned() } else { path };
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| not(error.to_string()))?;
    let url = format!("{origin}{path}");
    let options = ClientOptions { tls, max_idle: 1, ..ClientOptions::default() };
    Ok(Page { url, path, client: Client::new(origin, options, clock), runtime })
}

/// A metrics page.
pub(super) struct Page {
    url: String,
    path: String,
    client: Client,
    runtime: Runtime,
}

// === impl Page ===

impl Page {
    async fn get(&self) -> Result<Bytes, String> {
        let request = Request::get(&self.path)
            .header(ACCEPT, "text/plain;version=0.0.4")
            .body(Empty::<Bytes>::new())
            .map_err(|error| error.to_string())?;
        let response = self.client.send(request).await.map_err(|error| error.text)?;
        if !response.status().is_success() {
            return Err(format!("it answered {}", response.status()));
        }
        let body = Limited::new(response.into_body(), MAX_PAGE_BYTES).collect().await;
        Ok(body.map_err(|error| error.to_string())?.to_bytes())
    }
}

impl Source for Page {
    fn name(&self) -> String {
        self.url.clone()
    }

    fn read(&mut self, stamp: Stamp, sink: &mut dyn FnMut(Sample)) -> Result<(), String> {
        let page = self.runtime.block_on(async {
            tokio::time::timeout(TIMEOUT, self.get())
                .await
                .map_err(|_| format!("no answer within {TIMEOUT:?}"))?
        })?;
        let (metrics, bad) = parse(&String::from_utf8_lossy(&page));
        if metrics.is_empty() {
            return Err("the page holds no metric".to_owned());
        }
        for Metric { name, labels, value } in metrics {
            sink(Sample::Server(ServerMetric {
                at_ns: stamp.at_ns,
                sampled_at: stamp.utc_ns,
                target: self.url.clone(),
                name,
                labels,
                value,
            }));
        }
        if bad > 0 { Err(format!("{bad} lines of the page are not metrics")) } else { Ok(()) }
    }
}

fn metric(line: &str) -> Option<Metric> {
    let end = line.find(|c: char| c == '{' || c.is_whitespace())?;
    let (name, rest) = line.split_at(end);
    let mut labels = BTreeMap::new();
    let rest = match rest.strip_prefix('{') {
        Some(rest) => read_labels(rest, &mut labels)?,
        None => rest,
    };
    let value = number(rest.split_whitespace().next()?)?;
    let labels = serde_json::to_string(&labels).ok()?;
    (!name.is_empty()).then(|| Metric { name: name.to_owned(), labels, value })
}

/// Reads `a="b",c="d"}`; returns what follows.
fn read_labels<'line>(
    mut rest: &'line str,
    labels: &mut BTreeMap<&'line str, String>,
) -> Option<&'line str> {
    loop {
        rest = rest.trim_start_matches([',', ' ']);
        if let Some(rest) = rest.strip_prefix('}') {
            return Some(rest);
        }
        let (key, quoted) = rest.split_once('=')?;
        let (value, after) = read_quoted(quoted.trim_start().strip_prefix('"')?)?;
        labels.insert(key.trim(), value);
        rest = after;
    }
}

/// Reads up to the closing quote, taking `\\`, `\"` and `\n` for what they stand for.
fn read_quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => match chars.next()?.1 {
                'n' => value.push('\n'),
                c @ ('"' | '\\') => value.push(c),
                c => value.extend(['\\', c]),
            },
            c => value.push(c),
        }
    }
    None
}

fn number(text: &str) -> Option<f64> {
    match text {
        "+Inf" | "Inf" => Some(f64::INFINITY),
        "-Inf" => Some(f64::NEG_INFINITY),
        "NaN" => Some(f64::NAN),
        text => text.parse().ok(),
    }
}

/// Longest time that a scrape may take, and that the end of a run waits for one.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Largest page that is read.
const MAX_PAGE_BYTES: usize = 32 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn check(page: &str, expected: &[(&str, &str, f64)], bad: usize) {
        let (metrics, found_bad) = parse(page);
        let expected: Vec<Metric> = expected
            .iter()
            .map(|(name, labels, value)| Metric {
                name: (*name).into(),
                labels: (*labels).into(),
                value: *value,
            })
            .collect();
        assert_eq!((metrics, found_bad), (expected, bad), "{page}");
    }

    #[test]
    fn pages_of_servers_are_read() {
        check(
            "# HELP vllm:num_requests_running Number of requests.\n# TYPE vllm:num_requests_running gauge\n\
             vllm:num_requests_running{engine=\"0\",model_name=\"m/x\"} 3.0\n",
            &[("vllm:num_requests_running", r#"{"engine":"0","model_name":"m/x"}"#, 3.0)],
            0,
        );
        check(
            "vllm:time_to_first_token_seconds_bucket{le=\"+Inf\",b=\"\",} 1e3 1700000000000\nup 1",
            &[
                ("vllm:time_to_first_token_seconds_bucket", r#"{"b":"","le":"+Inf"}"#, 1e3),
                ("up", "{}", 1.0),
            ],
            0,
        );
        check(
            "DCGM_FI_DEV_POWER_USAGE{gpu=\"0\",modelName=\"NVIDIA H100\"} 212.5",
            &[("DCGM_FI_DEV_POWER_USAGE", r#"{"gpu":"0","modelName":"NVIDIA H100"}"#, 212.5)],
            0,
        );
        check("a +Inf\nb -Inf", &[("a", "{}", f64::INFINITY), ("b", "{}", f64::NEG_INFINITY)], 0);
        check(r#"a{x="a\"b\\c\nd,}="} 1"#, &[("a", r#"{"x":"a\"b\\c\nd,}="}"#, 1.0)], 0);
    }

    #[test]
    fn what_is_no_metric_is_counted() {
        check(
            "<html>\na{b=\"c} 1\na{b} 1\nok 2\n{x=\"y\"} 1\nbare\nz one",
            &[("ok", "{}", 2.0)],
            6,
        );
        assert!(parse("a NaN").0[0].value.is_nan());
    }
}
