//! Shares as flags take them.

/// Parts in a million.
const MILLION: u32 = 1_000_000;

/// Reads a share such as `0.1` or `10%`, in parts per million.
pub(super) fn share(text: &str) -> Result<u32, String> {
    let bad = || format!("`{text}` is no share; write it like 0.1 or 10%, from 0 to 1");
    let (number, of) = match text.strip_suffix('%') {
        Some(percent) => (percent, 100.0),
        None => (text, 1.0),
    };
    let share = number.trim().parse::<f64>().map_err(|_| bad())? / of;
    if !(0.0..=1.0).contains(&share) {
        return Err(bad());
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "from 0 to a million"
    )]
    let ppm = (share * f64::from(MILLION)).round() as u32;
    if ppm == 0 && share > 0.0 {
        return Err(format!("`{text}` is less than a millionth, which is the smallest share"));
    }
    Ok(ppm)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_parts_of_one_or_percent() {
        for (text, expected) in [
            ("1", Some(MILLION)),
            ("0", Some(0)),
            ("0.1", Some(100_000)),
            ("10%", Some(100_000)),
            ("0.000001", Some(1)),
            ("0.0000001", None),
            ("1.5", None),
            ("-0.1", None),
            ("101%", None),
            ("NaN", None),
            ("some", None),
        ] {
            assert_eq!(share(text).ok(), expected, "{text}");
        }
    }
}
