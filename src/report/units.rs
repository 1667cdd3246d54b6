//! Numbers for people: the one place where they are formatted.

/// Writes nanoseconds in the unit that suits them: `850 ns`, `12.3 µs`, `4.56 ms`, `1.23 s`, `2 min 05 s`.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "for people: three digits are shown")]
pub fn ns(ns: i64) -> String {
    let size = ns.unsigned_abs() as f64;
    let sign = if ns < 0 { "-" } else { "" };
    match size {
        _ if size < 1e3 => format!("{sign}{size:.0} ns"),
        _ if size < 999_500.0 => format!("{sign}{} µs", three(size / 1e3)),
        _ if size < 999_500_000.0 => format!("{sign}{} ms", three(size / 1e6)),
        _ if size < 120e9 => format!("{sign}{} s", three(size / 1e9)),
        _ => format!("{sign}{}", seconds(size / 1e9)),
    }
}

/// Writes seconds: `4.56 s`, `2 min 05 s`, `3 h 12 min`.
#[must_use]
pub fn seconds(s: f64) -> String {
    if s < 120.0 {
        return format!("{} s", three(s));
    }
    let minutes = (s / 60.0).floor();
    if minutes < 120.0 {
        return format!("{minutes:.0} min {:02.0} s", (s - minutes * 60.0).floor());
    }
    format!("{:.0} h {:02.0} min", (minutes / 60.0).floor(), minutes % 60.0)
}

/// Writes a count with commas between thousands.
#[must_use]
pub fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Writes `part` of `of` as percent; never 0 % or 100 % unless it is.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "for people")]
pub fn percent(part: u64, of: u64) -> String {
    if of == 0 {
        return "-".to_owned();
    }
    match part as f64 * 100.0 / of as f64 {
        0.0 => "0 %".to_owned(),
        100.0 => "100 %".to_owned(),
        small if small < 0.1 => "<0.1 %".to_owned(),
        large if large > 99.9 => ">99.9 %".to_owned(),
        share => format!("{share:.1} %"),
    }
}

/// Writes bytes: `512 B`, `3.4 kB`, `1.20 GB`, by thousands.
#[must_use]
pub fn bytes(bytes: f64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB"];
    let mut size = bytes;
    let mut unit = 0;
    while size >= 999.5 && unit + 1 < units.len() {
        size /= 1e3;
        unit += 1;
    }
    if unit == 0 { format!("{size:.0} B") } else { format!("{} {}", three(size), units[unit]) }
}

/// Writes a number with about three digits, commas between thousands.
#[must_use]
#[expect(clippy::cast_possible_truncation, reason = "rounded, positive and below 2^53")]
#[expect(clippy::cast_sign_loss, reason = "rounded, positive and below 2^53")]
pub fn three(value: f64) -> String {
    match value.abs() {
        size if size >= 1e15 => format!("{value:.2e}"),
        size if size >= 99.95 && value > 0.0 => count(value.round() as u64),
        size if size >= 99.95 => format!("{value:.0}"),
        size if size >= 9.995 => format!("{value:.1}"),
        size if size >= 0.0995 => format!("{value:.2}"),
        0.0 => "0".to_owned(),
        _ => format!("{value:.4}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_their_unit() {
        for (value, expected) in [
            (0, "0 ns"),
            (999, "999 ns"),
            (1_500, "1.50 µs"),
            (999_499, "999 µs"),
            (999_500, "1.00 ms"),
            (12_345_678, "12.3 ms"),
            (-12_345_678, "-12.3 ms"),
            (1_234_000_000, "1.23 s"),
            (119_000_000_000, "119 s"),
            (125_400_000_000, "2 min 05 s"),
            (7_380_000_000_000, "2 h 03 min"),
        ] {
            assert_eq!(ns(value), expected, "{value}");
        }
    }

    #[test]
    fn shares_are_not_rounded_to_all_or_nothing() {
        assert_eq!(percent(0, 10), "0 %");
        assert_eq!(percent(1, 100_000), "<0.1 %");
        assert_eq!(percent(99_999, 100_000), ">99.9 %");
        assert_eq!(percent(1, 3), "33.3 %");
        assert_eq!(percent(1, 0), "-");
    }

    #[test]
    fn counts_and_sizes() {
        assert_eq!(
            (count(0), count(999), count(1_234_567)),
            ("0".into(), "999".into(), "1,234,567".into())
        );
        assert_eq!((bytes(512.0), bytes(80e9)), ("512 B".into(), "80.0 GB".into()));
        assert_eq!(
            (three(0.0), three(0.012), three(12_345.6)),
            ("0".into(), "0.0120".into(), "12,346".into())
        );
    }
}
