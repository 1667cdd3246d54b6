//! What the tests of sockets share: a scripted upstream and raw peers, on blocking sockets, where a test says each byte.

pub(crate) mod peer;

pub(crate) use peer::{Peer, Upstream};
