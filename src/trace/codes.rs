//! The numbers of enumerations in the file: places in these lists.

use http::StatusCode;

use crate::trace::record::{DropReason, FaultKind, FaultSide, OmitReason, Version};
use crate::trace::wire::Malformed;

pub(super) const VERSIONS: [Version; 3] = [Version::Http10, Version::Http11, Version::Http2];
pub(super) const FAULT_SIDES: [FaultSide; 3] =
    [FaultSide::Client, FaultSide::Local, FaultSide::Server];
pub(super) const FAULT_KINDS: [FaultKind; 9] = [
    FaultKind::Closed,
    FaultKind::Connect,
    FaultKind::Disconnected,
    FaultKind::Dns,
    FaultKind::Other,
    FaultKind::Protocol,
    FaultKind::Reset,
    FaultKind::Timeout,
    FaultKind::Tls,
];
pub(super) const DROP_REASONS: [DropReason; 4] = [
    DropReason::QueueFull,
    DropReason::RecorderStopped,
    DropReason::WriteFailed,
    DropReason::Damaged,
];
pub(super) const OMIT_REASONS: [OmitReason; 3] =
    [OmitReason::Sampled, OmitReason::Filtered, OmitReason::Cut];

pub(super) fn status(code: u16) -> Result<StatusCode, Malformed> {
    StatusCode::from_u16(code).map_err(|_| Malformed("a status is not one"))
}

pub(super) fn one_of<T: Copy>(code: u8, values: &[T]) -> Result<T, Malformed> {
    values.get(usize::from(code)).copied().ok_or(Malformed("an enumeration has no such value"))
}

/// Returns the number of `value` in the file: its place in `values`.
pub(super) fn code_of<T: PartialEq>(value: &T, values: &[T]) -> u8 {
    let place = values.iter().position(|known| known == value);
    place.and_then(|place| u8::try_from(place).ok()).unwrap_or(u8::MAX)
}
