//! How an exchange begins: a request head that was read becomes an entry of the trace and a request to forward.

use std::sync::Arc;

use http::request::Parts;
use http::{HeaderMap, HeaderValue, Request, Version};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;

use crate::clock::Nanos;
use crate::http::server::Accepted;
use crate::proxy::exchange::Ledger;
use crate::proxy::framing::check_request;
use crate::proxy::handler::Proxy;
use crate::proxy::hops::{self, Hop};
use crate::proxy::refusal::Refusal;
use crate::proxy::sampling::Sender;
use crate::trace::record::{ExchangeId, RequestHead};
use crate::trace::redact::Redactor;

/// An exchange that was admitted and not yet sent on.
pub(super) struct Admitted {
    pub(super) ledger: Arc<Ledger>,
    pub(super) parts: Parts,
    pub(super) body: Incoming,
    pub(super) route: Option<usize>,
    /// What the client turns its connection over to, if it asked for an upgrade.
    pub(super) upgrade: Option<Asked>,
    /// Why it must not be forwarded.
    pub(super) refused: Option<Refusal>,
}

/// An upgrade that a client asked for.
pub(super) struct Asked {
    /// The protocols that it offers.
    pub(super) protocols: HeaderValue,
    pub(super) connection: OnUpgrade,
}

/// Stands for the number of the upstream when there is none for a path.
const NO_UPSTREAM: u32 = u32::MAX;

/// Admits a request of `client`: nothing has been awaited since its head was read.
pub(super) fn admit(proxy: &Proxy, client: &Accepted, mut request: Request<Incoming>) -> Admitted {
    let at = proxy.clock.now();
    let (flaw, stall) = if client.is_h2 {
        (None, client.outlet.next_stream())
    } else {
        (client.outlet.next_request(), client.outlet.stall())
    };
    let is_http11 = request.version() == Version::HTTP_11;
    let protocols = hops::upgrade(request.headers()).filter(|_| is_http11).cloned();
    let upgrade = protocols
        .map(|protocols| Asked { protocols, connection: hyper::upgrade::on(&mut request) });
    let (mut parts, body) = request.into_parts();
    let refused = check_request(&parts, &parts.headers, flaw, &proxy.options.bounds).err();
    let route = proxy.routes.choose(parts.uri.path());
    let host = route.and_then(|route| host(proxy, route, &parts));
    let hop = Hop {
        onward: Version::HTTP_11,
        upgrade: upgrade.as_ref().map(|upgrade| &upgrade.protocols),
        host: host.as_ref(),
        via: proxy.options.via.as_ref(),
    };
    let mut onward = hops::forward(&parts.headers, hop);
    if client.is_h2 {
        hops::join_cookies(&mut onward);
    }
    let received = std::mem::replace(&mut parts.headers, onward);
    let sender = Sender { address: client.peer.ip(), connection: client.connection };
    let omitted = proxy.options.sampler.omits(&parts, &received, sender);
    let ledger = Ledger::open(&proxy.common, at, stall, omitted, |exchange, redactor| {
        let upstream = route.and_then(|route| u32::try_from(route).ok()).unwrap_or(NO_UPSTREAM);
        let connection = client.connection;
        RequestHead { exchange, connection, upstream, ..head(&parts, received, redactor, at) }
    });
    Admitted { ledger, parts, body, route, upgrade, refused }
}

/// Describes a request as it was received, credentials replaced. Its exchange, connection and upstream are to be filled in.
fn head(parts: &Parts, mut headers: HeaderMap, redactor: &Redactor, at: Nanos) -> RequestHead {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let authority = match parts.uri.authority() {
        Some(authority) => Some(authority.to_string()),
        None => headers.get(http::header::HOST).map(text),
    };
    let target = match parts.uri.path_and_query() {
        Some(target) => redactor.target(target.as_str()).into_owned(),
        None => parts.uri.to_string(),
    };
    redactor.headers(&mut headers);
    RequestHead {
        exchange: ExchangeId(0),
        at,
        connection: 0,
        version: parts.version.into(),
        method: parts.method.clone(),
        target,
        authority,
        headers,
        upstream: NO_UPSTREAM,
    }
}

/// Returns the `Host` to send instead of the client's.
fn host(proxy: &Proxy, route: usize, parts: &Parts) -> Option<HeaderValue> {
    let client = &proxy.clients[route];
    if proxy.options.host.is_upstreams(client.origin().scheme) {
        return Some(client.authority().clone());
    }
    // HTTP/2, or a request in absolute form, whose authority overrules `Host` (RFC 9112, 3.2.2).
    parts.uri.authority().and_then(|authority| HeaderValue::try_from(authority.as_str()).ok())
}
