//! What a target says of itself, for the manifest: its version and its models. Asked for only when the user wants it, since
//! these are requests that the trace does not hold.

use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, USER_AGENT};
use http::{HeaderName, HeaderValue, Request};
use http_body_util::{BodyExt as _, Empty, Limited};
use serde::Deserialize;

use crate::clock::Clock;
use crate::http::Origin;
use crate::replay::rewrite::Rewrite;
use crate::replay::route::{Route, RouteOptions};
use crate::results::manifest::Target;
use crate::trace::record::Version;

#[derive(Deserialize)]
struct VersionAnswer {
    version: String,
}

#[derive(Deserialize)]
struct ModelsAnswer {
    data: Vec<Model>,
}

#[derive(Deserialize)]
struct Model {
    id: String,
}

/// Longest answer that is read.
const MAX_BYTES: usize = 1 << 20;
/// Longest wait for one answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Asks each target for its version (`/version`) and its models (`/v1/models`), with the user's header fields. What is not
/// answered in time and in the usual form stays unknown.
pub(super) async fn probe(
    targets: &[Origin],
    options: &RouteOptions,
    rewrite: &Rewrite,
    clock: Clock,
) -> Vec<Target> {
    let route = Route::new(targets, options, clock);
    let mut found = Vec::with_capacity(targets.len());
    for (place, target) in targets.iter().enumerate() {
        let models = if target.prefix.ends_with("/v1") { "/models" } else { "/v1/models" };
        let version = ask(&route, place, "/version", rewrite).await;
        let models = ask(&route, place, models, rewrite).await;
        let version = version.and_then(|body| serde_json::from_slice::<VersionAnswer>(&body).ok());
        let models = models.and_then(|body| serde_json::from_slice::<ModelsAnswer>(&body).ok());
        found.push(Target {
            url: target.to_string(),
            version: version.map(|answer| answer.version),
            models: models
                .into_iter()
                .flat_map(|answer| answer.data)
                .map(|model| model.id)
                .collect(),
            ..Target::default()
        });
    }
    found
}

async fn ask(route: &Route, place: usize, path: &'static str, rewrite: &Rewrite) -> Option<Bytes> {
    let client = route.client(place, Version::Http11);
    let mut request = Request::get(path).body(Empty::<Bytes>::new()).ok()?;
    let fields = request.headers_mut();
    fields.insert(
        USER_AGENT,
        HeaderValue::from_static(concat!("reenact/", env!("CARGO_PKG_VERSION"))),
    );
    let key = rewrite.api_key.iter().map(|key| (&AUTHORIZATION, key));
    let given = rewrite.headers.iter().map(|(name, value)| (name, value));
    for (name, value) in given.chain(key) {
        let name: &HeaderName = name;
        fields.insert(name, value.clone());
    }
    let answer = async {
        let response = client.send(request).await.ok()?;
        if !response.status().is_success() {
            return None;
        }
        let body = Limited::new(response.into_body(), MAX_BYTES).collect().await.ok()?;
        Some(body.to_bytes())
    };
    tokio::time::timeout(PATIENCE, answer).await.ok().flatten()
}
