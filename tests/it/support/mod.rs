//! What the tests of sockets share: a scripted upstream and raw peers, on blocking sockets, where a test says each byte;
//! and the proxy between them.

pub(crate) mod disk;
pub(crate) mod frames;
pub(crate) mod keys;
pub(crate) mod peer;
pub(crate) mod process;
pub(crate) mod recording;
pub(crate) mod simulated;

pub(crate) use disk::SmallDisk;
pub(crate) use keys::{KEYS, identities, recipients};
pub(crate) use peer::{Peer, Upstream};
pub(crate) use process::{Process, ask, ask_with, check_verified};
pub(crate) use recording::{Recorded, Recording, Setup};
pub(crate) use simulated::Simulated;
