//! How an exchange begins: a request head that was read becomes an entry of the trace and a request to forward.

use std::borrow::Cow;
use std::sync::Arc;

use http::request::Parts;
use http::uri::Authority;
use http::{HeaderValue, Request, Version};
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
use crate::trace::record::{ExchangeId, PackedHead, RequestHeadRef};
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

/// What the trace knows a request by.
struct Numbers {
    exchange: ExchangeId,
    at: Nanos,
    connection: u64,
    upstream: u32,
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
    let sender = Sender { address: client.peer.ip(), connection: client.connection };
    let omitted = proxy.options.sampler.omits(&parts, sender);
    let ledger = Ledger::open(&proxy.common, at, stall, omitted, |exchange, redactor| {
        let upstream = route.and_then(|route| u32::try_from(route).ok()).unwrap_or(NO_UPSTREAM);
        let numbers = Numbers { exchange, at, connection: client.connection, upstream };
        pack(&parts, numbers, redactor)
    });
    let received = std::mem::take(&mut parts.headers);
    parts.headers = hops::forward(received, hop);
    if client.is_h2 {
        hops::join_cookies(&mut parts.headers);
    }
    Admitted { ledger, parts, body, route, upgrade, refused }
}

/// Packs the head of a request as it was received, credentials replaced.
fn pack(parts: &Parts, numbers: Numbers, redactor: &Redactor) -> PackedHead {
    let host = parts.headers.get(http::header::HOST);
    let host = host.map(|host| String::from_utf8_lossy(host.as_bytes()));
    let target = match parts.uri.path_and_query() {
        Some(target) => redactor.target(target.as_str()),
        None => Cow::Owned(parts.uri.to_string()),
    };
    let head = RequestHeadRef {
        exchange: numbers.exchange,
        at: numbers.at,
        connection: numbers.connection,
        version: parts.version.into(),
        method: &parts.method,
        target: &target,
        authority: parts.uri.authority().map(Authority::as_str).or(host.as_deref()),
        headers: &parts.headers,
        upstream: numbers.upstream,
    };
    PackedHead::request(head, Some(redactor))
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
