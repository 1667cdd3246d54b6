//! One exchange from end to end: admit, forward, answer.

use std::convert::Infallible;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper::upgrade::OnUpgrade;
use tokio::sync::RwLock;

use crate::clock::{Clock, Nanos};
use crate::http::server::Accepted;
use crate::http::tap::TapBody;
use crate::http::{Carried, Client, ResponseBody};
use crate::proxy::answer::Answer;
use crate::proxy::common::Common;
use crate::proxy::exchange::{Ledger, SideTap};
use crate::proxy::expect::{self, Gate, Gated};
use crate::proxy::hops::{self, Hop};
use crate::proxy::metrics::Answerer;
use crate::proxy::options::ProxyOptions;
use crate::proxy::queue::Feed;
use crate::proxy::refusal::Refusal;
use crate::proxy::route::Routes;
use crate::proxy::tunnel;
use crate::trace::record::{Event, ExchangeId, Interim, RequestHead, ResponseHead, Side};
use crate::trace::redact::Redactor;

/// The proxy: everything that its connections share.
pub struct Proxy {
    routes: Routes,
    /// One for each route; a connection takes siblings of them.
    clients: Vec<Client>,
    options: ProxyOptions,
    common: Arc<Common>,
    clock: Clock,
    /// Read-locked by each tunnel.
    tunnels: Arc<RwLock<()>>,
}

/// The body of a response to a client.
pub type ProxyBody = TapBody<Answer, SideTap>;

/// A client's connection, with its own connections to the upstreams.
struct Connection {
    proxy: Arc<Proxy>,
    accepted: Accepted,
    clients: Vec<OnceLock<Client>>,
}

/// An exchange that was admitted and not yet sent on.
struct Admitted {
    ledger: Arc<Ledger>,
    parts: Parts,
    body: Incoming,
    route: Option<usize>,
    /// What the client turns its connection over to, if it asked for an upgrade.
    upgrade: Option<OnUpgrade>,
}

/// A response whose head was recorded and is ready for the client.
struct TakenHead {
    parts: http::response::Parts,
    body: ResponseBody,
    /// What the proxy took for the request, see [`Totals::added`](crate::proxy::metrics::Totals).
    onward: Duration,
    /// When the head was read.
    at: Nanos,
}

/// Stands for the number of the upstream when there is none for a path.
const NO_UPSTREAM: u32 = u32::MAX;

// === impl Proxy ===

impl Proxy {
    /// Puts a proxy together. `clients` has one client for each of `routes`, in their order.
    #[must_use]
    pub fn new(
        routes: Routes,
        clients: Vec<Client>,
        options: ProxyOptions,
        redactor: Redactor,
        feed: Feed,
    ) -> Arc<Self> {
        let clock = feed.clock();
        Arc::new(Self {
            routes,
            clients,
            options,
            common: Arc::new(Common::new(feed, redactor)),
            clock,
            tunnels: Arc::default(),
        })
    }

    /// Makes the service of one client connection.
    pub fn service(
        self: &Arc<Self>,
        accepted: Accepted,
    ) -> impl Service<
        Request<Incoming>,
        Response = Response<ProxyBody>,
        Error = Infallible,
        Future: Send + 'static,
    > + Send
    + use<> {
        let clients = self.clients.iter().map(|_| OnceLock::new()).collect();
        let connection = Arc::new(Connection { proxy: Arc::clone(self), accepted, clients });
        service_fn(move |request| {
            let admitted = connection.admit(request);
            let connection = Arc::clone(&connection);
            async move { Ok(connection.exchange(admitted).await) }
        })
    }

    /// Says that what is dropped from now on is dropped by the proxy, not left by its client.
    pub fn break_off(&self) {
        self.common.stop();
    }

    /// Returns what its exchanges share: the recorder, the counts, the redactor.
    #[must_use]
    pub fn common(&self) -> &Arc<Common> {
        &self.common
    }

    /// Waits until no tunnel is left.
    pub async fn tunnels_closed(&self) {
        drop(self.tunnels.write().await);
    }

    fn host(&self, route: usize, parts: &Parts) -> Option<HeaderValue> {
        let origin = self.clients[route].origin();
        if self.options.host.is_upstreams(origin.scheme) {
            return HeaderValue::try_from(origin.authority()).ok();
        }
        // HTTP/2, or a request in absolute form, whose authority overrules `Host` (RFC 9112, 3.2.2).
        parts.uri.authority().and_then(|authority| HeaderValue::try_from(authority.as_str()).ok())
    }
}

// === impl Connection ===

impl Connection {
    /// Admits a request: nothing has been awaited since its head was read.
    fn admit(&self, mut request: Request<Incoming>) -> Admitted {
        let at = self.proxy.clock.now();
        let asks_upgrade = hops::upgrade(request.headers()).is_some();
        let upgrade = asks_upgrade.then(|| hyper::upgrade::on(&mut request));
        let (mut parts, body) = request.into_parts();
        let proxy = &self.proxy;
        let route = proxy.routes.choose(parts.uri.path());
        let host = route.and_then(|route| proxy.host(route, &parts));
        let onward = hops::forward(
            &parts.headers,
            Hop {
                onward: Version::HTTP_11,
                upgrade: hops::upgrade(&parts.headers),
                host: host.as_ref(),
                via: proxy.options.via.as_ref(),
            },
        );
        let received = std::mem::replace(&mut parts.headers, onward);
        let ledger = Ledger::open(&proxy.common, at, |exchange, redactor| {
            let upstream = route.and_then(|route| u32::try_from(route).ok()).unwrap_or(NO_UPSTREAM);
            self.head(exchange, at, &parts, received, redactor, upstream)
        });
        Admitted { ledger, parts, body, route, upgrade }
    }

    /// Describes a request as it was received, credentials replaced.
    fn head(
        &self,
        exchange: ExchangeId,
        at: Nanos,
        parts: &Parts,
        mut headers: HeaderMap,
        redactor: &Redactor,
        upstream: u32,
    ) -> RequestHead {
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
            exchange,
            at,
            connection: self.accepted.connection,
            version: parts.version.into(),
            method: parts.method.clone(),
            target,
            authority,
            headers,
            upstream,
        }
    }

    async fn exchange(&self, admitted: Admitted) -> Response<ProxyBody> {
        let Admitted { ledger, parts, body, route, upgrade } = admitted;
        let version = parts.version;
        if self.proxy.options.fail_closed && ledger.misses_the_trace() {
            return self.refuse(&ledger, version, Refusal::unrecorded());
        }
        let Some(route) = route else {
            return self.refuse(&ledger, version, Refusal::no_upstream());
        };
        if parts.method == Method::CONNECT {
            return self.refuse(&ledger, version, Refusal::connect_method());
        }
        let proxy = &self.proxy;
        let client = self.clients[route].get_or_init(|| proxy.clients[route].sibling());
        let request = self.onward(&ledger, parts, body);
        match client.send(request).await {
            Ok(response) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
                self.switch(&ledger, response, upgrade, version)
            }
            Ok(response) => self.answer(&ledger, response, version),
            Err(error) => {
                if let Some(carried) = &error.carried {
                    ledger.link(carried);
                }
                self.refuse(&ledger, version, Refusal::of(error))
            }
        }
    }

    /// Makes the request that goes on to the upstream.
    fn onward(
        &self,
        ledger: &Arc<Ledger>,
        parts: Parts,
        body: Incoming,
    ) -> Request<TapBody<Gated<Incoming>, SideTap>> {
        let is_http11 = parts.version == Version::HTTP_11;
        let gate = (is_http11 && expect::is_asked(&parts.headers) && !body.is_end_stream())
            .then(Gate::default);
        let gated = Gated::new(body, gate.clone());
        let tap = SideTap::new(Arc::clone(ledger), Side::Request);
        let mut request = Request::from_parts(parts, TapBody::new(gated, tap, self.proxy.clock));
        request.extensions_mut().insert(ledger.boarding());
        self.pass_interims(&mut request, ledger, gate, is_http11);
        request
    }

    /// Has interim responses passed on: `100 Continue` by opening the gate, since hyper says it then; any other, or one
    /// that was not asked for, as it is.
    fn pass_interims<B>(
        &self,
        request: &mut Request<B>,
        ledger: &Arc<Ledger>,
        gate: Option<Gate>,
        is_http11: bool,
    ) {
        // Weak: hyper drops the callback with the connection's next request, and the exchange ends before.
        let ledger = Arc::downgrade(ledger);
        let outlet = is_http11.then(|| self.accepted.outlet.clone());
        let clock = self.proxy.clock;
        hyper::ext::on_informational(request, move |interim| {
            let at = clock.now();
            let (status, mut headers) = (interim.status(), interim.headers().clone());
            match (&gate, &outlet) {
                (Some(gate), _) if status == StatusCode::CONTINUE => gate.open(),
                (_, Some(outlet)) => outlet.send_interim(status, &headers),
                (_, None) => {}
            }
            if let Some(ledger) = ledger.upgrade() {
                ledger.redactor().headers(&mut headers);
                let exchange = ledger.exchange();
                ledger.note(Event::Interim(Box::new(Interim { exchange, at, status, headers })));
            }
        });
    }

    /// Passes a response on to the client.
    fn answer(
        &self,
        ledger: &Arc<Ledger>,
        response: Response<ResponseBody>,
        version: Version,
    ) -> Response<ProxyBody> {
        let TakenHead { parts, body, onward, at } = self.take_head(ledger, response, version, None);
        let answer = Answer::passed_on(&parts, body, &self.accepted);
        let response = Response::from_parts(parts, self.watch(ledger, answer));
        self.handed_back(onward, at);
        response
    }

    /// Passes a `101` on, and then whatever the two sides say to each other.
    fn switch(
        &self,
        ledger: &Arc<Ledger>,
        mut response: Response<ResponseBody>,
        upgrade: Option<OnUpgrade>,
        version: Version,
    ) -> Response<ProxyBody> {
        let Some(client) = upgrade else {
            return self.refuse(ledger, version, Refusal::unasked_upgrade());
        };
        let upstream = hyper::upgrade::on(&mut response);
        let protocol = response.headers().get(http::header::UPGRADE).cloned();
        let TakenHead { parts, onward, at, .. } =
            self.take_head(ledger, response, version, protocol.as_ref());
        let guard = Arc::clone(&self.proxy.tunnels).try_read_owned().ok();
        let (ledger, clock) = (Arc::clone(ledger), self.proxy.clock);
        tokio::spawn(async move {
            tunnel::run(client, upstream, ledger, clock).await;
            drop(guard);
        });
        let silent = TapBody::new(Answer::Own(None), SideTap::silent(), self.proxy.clock);
        self.handed_back(onward, at);
        Response::from_parts(parts, silent)
    }

    /// Counts what the proxy added: `onward` to the request, and since `at` to the response.
    fn handed_back(&self, onward: Duration, at: Nanos) {
        let back = self.proxy.clock.now().since(at);
        self.proxy.common.metrics.added(onward + back);
    }

    /// Records a response head and makes it ready for the client.
    fn take_head(
        &self,
        ledger: &Arc<Ledger>,
        response: Response<ResponseBody>,
        version: Version,
        upgrade: Option<&HeaderValue>,
    ) -> TakenHead {
        let at = self.proxy.clock.now();
        let (mut parts, body) = response.into_parts();
        let mut onward = Duration::ZERO;
        if let Some(carried) = parts.extensions.get::<Carried>() {
            ledger.link(carried);
            let opening = Duration::from_nanos(carried.connect_ns + carried.tls_ns);
            onward = carried.ready_at.since(ledger.at()).saturating_sub(opening);
        }
        self.proxy.common.metrics.responded(Answerer::Upstream, parts.status);
        let via = self.proxy.options.via.as_ref();
        let hop = Hop { onward: version, upgrade, host: None, via };
        let forwarded = hops::forward(&parts.headers, hop);
        let mut received = std::mem::replace(&mut parts.headers, forwarded);
        ledger.response(|| {
            ledger.redactor().headers(&mut received);
            ResponseHead {
                exchange: ledger.exchange(),
                at,
                version: parts.version.into(),
                status: parts.status,
                reason: hops::reason(&parts),
                headers: received,
            }
        });
        parts.version = version.max(Version::HTTP_11);
        TakenHead { parts, body, onward, at }
    }

    /// Answers by itself.
    fn refuse(
        &self,
        ledger: &Arc<Ledger>,
        version: Version,
        refusal: Refusal,
    ) -> Response<ProxyBody> {
        let (headers, body) = refusal.message();
        let Refusal { status, fault, .. } = refusal;
        ledger.fault(fault);
        self.proxy.common.metrics.responded(Answerer::Proxy, status);
        ledger.response(|| ResponseHead {
            exchange: ledger.exchange(),
            at: self.proxy.clock.now(),
            version: version.into(),
            status,
            reason: None,
            headers: headers.clone(),
        });
        let mut response = Response::new(self.watch(ledger, Answer::Own(Some(body))));
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        response
    }

    fn watch(&self, ledger: &Arc<Ledger>, answer: Answer) -> ProxyBody {
        let mut tap = SideTap::new(Arc::clone(ledger), Side::Response);
        if matches!(answer, Answer::Claimed(_)) {
            // The server writes the head and never asks for the body.
            tap.finish(None, self.proxy.clock.now());
        }
        TapBody::new(answer, tap, self.proxy.clock)
    }
}
