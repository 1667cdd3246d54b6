//! What two texts have in common.

/// Returns how many bytes at the front of two slices of one length are equal. Eight at a time: this is a good part of what
/// a streamed token costs the writer.
pub(super) fn common_front(a: &[u8], b: &[u8]) -> usize {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    for (at, (a, b)) in a.iter().zip(b).enumerate() {
        let differing = u64::from_le_bytes(*a) ^ u64::from_le_bytes(*b);
        if differing != 0 {
            return at * 8 + differing.trailing_zeros() as usize / 8;
        }
    }
    a.len() * 8 + a_rest.iter().zip(b_rest).take_while(|(a, b)| a == b).count()
}

/// Returns how many bytes at the back of two slices of one length are equal.
pub(super) fn common_back(a: &[u8], b: &[u8]) -> usize {
    let ((a_rest, a), (b_rest, b)) = (a.as_rchunks::<8>(), b.as_rchunks::<8>());
    for (at, (a, b)) in a.iter().zip(b).rev().enumerate() {
        let differing = u64::from_le_bytes(*a) ^ u64::from_le_bytes(*b);
        if differing != 0 {
            return at * 8 + differing.leading_zeros() as usize / 8;
        }
    }
    a.len() * 8 + a_rest.iter().rev().zip(b_rest.iter().rev()).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_common_is_counted_as_byte_by_byte(
            front in prop::collection::vec(any::<u8>(), 0..40),
            (a, b) in (0_usize..20).prop_flat_map(|n| {
                let side = move || prop::collection::vec(0_u8..3, n);
                (side(), side())
            }),
            back in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let [a, b] = [a, b].map(|middle| [&front[..], &middle, &back].concat());
            let pairs = || a.iter().zip(&b);
            prop_assert_eq!(common_front(&a, &b), pairs().take_while(|(a, b)| a == b).count());
            prop_assert_eq!(common_back(&a, &b), pairs().rev().take_while(|(a, b)| a == b).count());
        }
    }
}
