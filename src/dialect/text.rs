//! Comparison of two outputs.

/// Returns the position, in characters, of the first difference between `left` and `right`; none when they are equal.
/// When one begins with the other, that is the length of the shorter.
#[must_use]
pub fn first_difference(left: &str, right: &str) -> Option<u64> {
    if left == right {
        return None;
    }
    let same = left.chars().zip(right.chars()).take_while(|(left, right)| left == right).count();
    Some(same as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_difference_is_counted_in_characters() {
        for (left, right, expected) in [
            ("", "", None),
            ("same", "same", None),
            ("", "a", Some(0)),
            ("abc", "abd", Some(2)),
            ("abc", "abcd", Some(3)),
            ("né", "nè", Some(1)),
            ("日本語", "日本酒", Some(2)),
        ] {
            assert_eq!(first_difference(left, right), expected, "{left:?} {right:?}");
            assert_eq!(first_difference(right, left), expected, "{right:?} {left:?}");
        }
    }
}
