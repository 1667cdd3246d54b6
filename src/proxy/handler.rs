//! One exchange from end to end: admit, forward, answer.

use std::convert::Infallible;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use tokio::sync::RwLock;

use crate::clock::{Clock, Nanos};
use crate::http::direct::DirectBody;
use crate::http::server::Accepted;
use crate::http::tap::TapBody;
use crate::http::wakes::QuietBody;
use crate::http::{Carried, Client, ResponseBody};
use crate::proxy::admission::{Admitted, Asked, admit};
use crate::proxy::answer::Answer;
use crate::proxy::common::Common;
use crate::proxy::exchange::Ledger;
use crate::proxy::expect::{self, Gate, Gated};
use crate::proxy::framing::check_response;
use crate::proxy::hops::{self, Hop};
use crate::proxy::metrics::Answerer;
use crate::proxy::options::ProxyOptions;
use crate::proxy::queue::Feed;
use crate::proxy::refusal::Refusal;
use crate::proxy::route::Routes;
use crate::proxy::side_tap::SideTap;
use crate::proxy::tunnel::{self, Protocol};
use crate::proxy::upload::Upload;
use crate::trace::record::{Event, FaultKind, Interim, PackedHead, ResponseHeadRef, Side};
use crate::trace::redact::Redactor;

/// The proxy: everything that its connections share.
pub struct Proxy {
    pub(super) routes: Routes,
    /// One for each route; a connection takes siblings of them.
    pub(super) clients: Vec<Client>,
    pub(super) options: ProxyOptions,
    pub(super) common: Arc<Common>,
    pub(super) clock: Clock,
    /// Read-locked by each tunnel.
    tunnels: Arc<RwLock<()>>,
}

/// The body of a response to a client.
pub type ProxyBody = DirectBody<TapBody<Answer, SideTap>>;

/// A client's connection, with its own connections to the upstreams.
struct Connection {
    proxy: Arc<Proxy>,
    accepted: Accepted,
    clients: Vec<OnceLock<Client>>,
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

/// What is done to interim responses.
const INTERIM: Hop<'static> =
    Hop { onward: Version::HTTP_11, upgrade: None, host: None, via: None };

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
            let admitted = admit(&connection.proxy, &connection.accepted, request);
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
}

// === impl Connection ===

impl Connection {
    async fn exchange(&self, admitted: Admitted) -> Response<ProxyBody> {
        let Admitted { ledger, parts, body, route, upgrade, refused } = admitted;
        let version = parts.version;
        if let Some(refusal) = refused {
            return self.refuse(&ledger, version, refusal);
        }
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
        let sent = match proxy.options.bounds.first_byte {
            None => client.send(request).await,
            Some(limit) => match tokio::time::timeout(limit, client.send(request)).await {
                Ok(sent) => sent,
                Err(_late) => return self.refuse(&ledger, version, Refusal::late(limit)),
            },
        };
        match sent {
            Ok(response) => self.received(&ledger, response, upgrade, version),
            Err(error) => {
                if let Some(carried) = &error.carried {
                    ledger.link(carried);
                }
                let stalled = ledger.upload_fault().filter(|it| it.kind == FaultKind::Timeout);
                let refusal = stalled.map_or_else(|| Refusal::of(error), Refusal::slow_upload);
                self.refuse(&ledger, version, refusal)
            }
        }
    }

    /// Goes on with the response.
    fn received(
        &self,
        ledger: &Arc<Ledger>,
        response: Response<ResponseBody>,
        upgrade: Option<Asked>,
        version: Version,
    ) -> Response<ProxyBody> {
        if let Err(refusal) = check_response(response.headers()) {
            // Dropped with what is unread, it takes its connection along.
            if let Some(carried) = response.extensions().get::<Carried>() {
                ledger.link(carried);
            }
            return self.refuse(ledger, version, refusal);
        }
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return self.switch(ledger, response, upgrade, version);
        }
        self.answer(ledger, response, version)
    }

    /// Makes the request that goes on to the upstream.
    fn onward(
        &self,
        ledger: &Arc<Ledger>,
        parts: Parts,
        body: Incoming,
    ) -> Request<TapBody<Gated<Upload<QuietBody<Incoming>>>, SideTap>> {
        let is_http11 = parts.version == Version::HTTP_11;
        let gate = (is_http11 && expect::is_asked(&parts.headers) && !body.is_end_stream())
            .then(Gate::default);
        let body = QuietBody::new(body, self.accepted.is_h2);
        let upload = Upload::new(body, self.proxy.options.bounds.upload_stall);
        let gated = Gated::new(upload, gate.clone());
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
                (_, Some(outlet)) => {
                    outlet.send_interim(status, &hops::forward(headers.clone(), INTERIM));
                }
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
        let limit = self.proxy.options.bounds.between_chunks;
        let stall = Arc::clone(ledger.stall());
        let answer = Answer::passed_on(&parts, body, &self.accepted, stall, limit);
        // Such a response hyper sends in chunks.
        let is_chunked = version == Version::HTTP_11
            && answer.size_hint().exact().is_none()
            && !parts.headers.contains_key(http::header::CONTENT_LENGTH);
        let outlet = is_chunked.then(|| self.accepted.outlet.clone());
        let body = DirectBody::new(self.watch(ledger, answer), outlet);
        let response = Response::from_parts(parts, body);
        self.handed_back(onward, at);
        response
    }

    /// Passes a `101` on, and then whatever the two sides say to each other.
    fn switch(
        &self,
        ledger: &Arc<Ledger>,
        mut response: Response<ResponseBody>,
        upgrade: Option<Asked>,
        version: Version,
    ) -> Response<ProxyBody> {
        let protocol = response.headers().get(http::header::UPGRADE).cloned();
        let is_offered = |asked: &Asked| {
            protocol.as_ref().is_some_and(|chosen| hops::offers(&asked.protocols, chosen))
        };
        let Some(Asked { connection: client, .. }) = upgrade.filter(is_offered) else {
            return self.refuse(ledger, version, Refusal::unasked_upgrade());
        };
        let upstream = hyper::upgrade::on(&mut response);
        self.accepted.outlet.open_tunnel();
        let is_websocket = protocol.as_ref().is_some_and(hops::is_websocket);
        let spoken = if is_websocket { Protocol::WebSocket } else { Protocol::Other };
        let TakenHead { parts, onward, at, .. } =
            self.take_head(ledger, response, version, protocol.as_ref());
        let guard = Arc::clone(&self.proxy.tunnels).try_read_owned().ok();
        let (ledger, clock) = (Arc::clone(ledger), self.proxy.clock);
        tokio::spawn(async move {
            tunnel::run(client, upstream, spoken, ledger, clock).await;
            drop(guard);
        });
        let silent = TapBody::new(Answer::Own(None), SideTap::silent(), self.proxy.clock);
        self.handed_back(onward, at);
        Response::from_parts(parts, DirectBody::new(silent, None))
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
        ledger.response(|exchange, redactor| {
            let (version, status) = (parts.version.into(), parts.status);
            let (reason, headers) = (hops::reason(&parts), &parts.headers);
            let reason = reason.as_deref();
            let head = ResponseHeadRef { exchange, at, version, status, reason, headers };
            PackedHead::response(head, Some(redactor))
        });
        let received = std::mem::take(&mut parts.headers);
        parts.headers = hops::forward(received, hop);
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
        let (headers, body) = refusal.message(version);
        let Refusal { status, fault, .. } = refusal;
        ledger.fault(fault);
        self.proxy.common.metrics.responded(Answerer::Proxy, status);
        ledger.response(|exchange, _| {
            let (at, version) = (self.proxy.clock.now(), version.into());
            let headers = &headers;
            let head = ResponseHeadRef { exchange, at, version, status, reason: None, headers };
            PackedHead::response(head, None)
        });
        let body = self.watch(ledger, Answer::Own(Some(body)));
        let mut response = Response::new(DirectBody::new(body, None));
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        response
    }

    fn watch(&self, ledger: &Arc<Ledger>, answer: Answer) -> TapBody<Answer, SideTap> {
        if self.accepted.is_h2 {
            // The head goes next, and the body is not asked for before the client gives it room.
            ledger.stall().handed();
        }
        let mut tap = SideTap::new(Arc::clone(ledger), Side::Response);
        if matches!(answer, Answer::Claimed(_)) {
            // The server writes the head and never asks for the body.
            tap.finish(None, self.proxy.clock.now());
        }
        TapBody::new(answer, tap, self.proxy.clock)
    }
}
