//! HTTP without policy: sockets, connections, messages. What is done with them is the verbs' business.
//!
//! * [`client`]: sends requests to one [`Origin`] over pooled connections, HTTP/1.1 and HTTP/2. An HTTP/1.1 connection is
//!   driven by the task that reads the response, not by one of its own.
//! * [`server`]: accepts connections, tells HTTP/1.1 from HTTP/2, drains on shutdown.
//! * [`side`]: a small server beside it, for those who look after the process.
//! * [`limits`]: how much a server takes from one client, and how long it waits for it ([`heads`], [`stall`]).
//! * [`tap`]: watches a body: every frame once, exactly one end.
//! * [`direct`]: a stream under way is written to its client beside hyper, in what its body can be [`drain`]ed of; `chunks`:
//!   and read from its server beside hyper. Heads, ends, trailers and whatever is not plain stay hyper's: `lending` and
//!   `intake` are the places below it where the socket changes hands.
//! * [`workers`]: threads that serve connections; [`wakes`]: what their tasks need not be woken for.
//! * [`tls`]: certificates and roots for both.

mod attempt;
mod boarding;
pub mod body;
mod chunks;
pub mod client;
mod connect;
pub mod direct;
pub mod drain;
pub mod error;
mod form;
mod handover;
pub mod heads;
mod intake;
mod lending;
pub mod limits;
pub mod options;
pub mod origin;
pub mod outlet;
mod pool;
mod serve_h2;
pub mod server;
mod shake;
pub mod side;
pub mod stall;
pub mod stream;
pub mod tap;
pub mod tls;
pub mod wakes;
pub mod workers;

pub use boarding::{Boarding, Carried};
pub use body::{BodyError, ResponseBody};
pub use client::Client;
pub use connect::{Budget, Connects};
pub use error::SendError;
pub use limits::Limits;
pub use options::{ClientOptions, Protocol};
pub use origin::{Origin, OriginError, Scheme};
