//! Embeddings: vectors of unit length, made from a digest.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::chance::Chance;

/// Returns the vector of an input. The same bits on every machine: whole numbers, one square root, one division.
pub(super) fn vector(seed: u64, digest: &[u8; 32], dimensions: usize) -> Vec<f32> {
    let mut chance = Chance::new(seed, "embedding", digest);
    let raw: Vec<i16> = (0..dimensions)
        .map(|_| {
            let [low, high, ..] = chance.bits().to_le_bytes();
            i16::from_le_bytes([low, high])
        })
        .collect();
    let square: i64 = raw.iter().map(|number| i64::from(*number) * i64::from(*number)).sum();
    #[expect(
        clippy::cast_precision_loss,
        reason = "the same everywhere, which is all that matters"
    )]
    let length = (square.max(1) as f64).sqrt();
    #[expect(clippy::cast_possible_truncation, reason = "embeddings are 32-bit floats")]
    raw.iter().map(|number| (f64::from(*number) / length) as f32).collect()
}

/// Returns the vector as base64 of little-endian 32-bit floats.
pub(super) fn base64(vector: &[f32]) -> String {
    let bytes: Vec<u8> = vector.iter().flat_map(|number| number.to_le_bytes()).collect();
    STANDARD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_are_of_unit_length_and_tell_inputs_apart() {
        let (a, b) = (vector(1, &[1; 32], 64), vector(1, &[2; 32], 64));
        assert_eq!(a, vector(1, &[1; 32], 64));
        assert_ne!(a, b);
        let length: f32 = a.iter().map(|number| number * number).sum();
        assert!((length - 1.0).abs() < 1e-5, "{length}");
        assert_eq!(base64(&[0.5, -1.0]), "AAAAPwAAgL8=");
    }
}
