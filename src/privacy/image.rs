//! Images that show nothing: of a given format, size in pixels and length in bytes.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::ZlibEncoder;

/// Width and height in pixels.
type Size = (u32, u32);

/// Returns an image of the same format, size and length as `original`, with `digest` in what viewers skip, so that images
/// with different digests differ; none when it is no image, or too short for this.
pub(super) fn standin(original: &[u8], digest: &[u8; 32]) -> Option<Vec<u8>> {
    let len = original.len();
    let made = match original {
        [0x89, b'P', b'N', b'G', ..] => png(png_size(original)?, len, digest)?,
        [0xFF, 0xD8, ..] => jpeg(jpeg_size(original)?, len, digest)?,
        [b'G', b'I', b'F', ..] => gif(gif_size(original)?, len, digest)?,
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => {
            webp(webp_size(original)?, len, digest)?
        }
        _ => return None,
    };
    (made.len() == len).then_some(made)
}

/// Most bytes of pixels that are written out, before compression.
const MAX_PIXEL_BYTES: u64 = 64 << 20;
/// Least bytes of the digest that must have room.
const LEAST_DIGEST: usize = 8;

/// Returns `len` bytes that viewers skip: the digest, then nothing.
fn padding(len: usize, digest: &[u8; 32]) -> Vec<u8> {
    let mut padding = vec![0; len];
    let told = len.min(digest.len());
    padding[..told].copy_from_slice(&digest[..told]);
    padding
}

fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn be16(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?).into())
}

fn le16(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?).into())
}

fn le24(bytes: &[u8], at: usize) -> Option<u32> {
    let [a, b, c] = *bytes.get(at..)?.first_chunk()?;
    Some(u32::from_le_bytes([a, b, c, 0]))
}

fn le32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

// === PNG ===

fn png_size(bytes: &[u8]) -> Option<Size> {
    Some((be32(bytes, 16)?, be32(bytes, 20)?))
}

/// One bit a pixel, all of one gray; the padding is in a private chunk.
fn png((width, height): Size, len: usize, digest: &[u8; 32]) -> Option<Vec<u8>> {
    let row = u64::from(width.div_ceil(8)) + 1;
    let mut left = row.checked_mul(height.into()).filter(|bytes| *bytes <= MAX_PIXEL_BYTES)?;
    let mut pixels = ZlibEncoder::new(Vec::new(), Compression::best());
    let zeros = [0; 4096];
    while left > 0 {
        let part = left.min(zeros.len() as u64);
        pixels.write_all(&zeros[..usize::try_from(part).ok()?]).ok()?;
        left -= part;
    }
    let pixels = pixels.finish().ok()?;
    let mut head = width.to_be_bytes().to_vec();
    head.extend_from_slice(&height.to_be_bytes());
    head.extend_from_slice(&[1, 0, 0, 0, 0]);
    let mut out = b"\x89PNG\r\n\x1a\n".to_vec();
    png_chunk(&mut out, b"IHDR", &head)?;
    let taken = out.len() + 3 * PNG_CHUNK + pixels.len();
    let room = len.checked_sub(taken).filter(|room| *room >= LEAST_DIGEST)?;
    png_chunk(&mut out, b"rnCt", &padding(room, digest))?;
    png_chunk(&mut out, b"IDAT", &pixels)?;
    png_chunk(&mut out, b"IEND", b"")?;
    Some(out)
}

/// Bytes of a chunk without data.
const PNG_CHUNK: usize = 12;

fn png_chunk(out: &mut Vec<u8>, name: &[u8; 4], data: &[u8]) -> Option<()> {
    out.extend_from_slice(&u32::try_from(data.len()).ok()?.to_be_bytes());
    let from = out.len();
    out.extend_from_slice(name);
    out.extend_from_slice(data);
    let crc = crc32fast::hash(&out[from..]);
    out.extend_from_slice(&crc.to_be_bytes());
    Some(())
}

// === JPEG ===

fn jpeg_size(bytes: &[u8]) -> Option<Size> {
    let mut at = 2;
    loop {
        // Any number of these may stand before a marker.
        while bytes.get(at..at + 2)? == [0xFF, 0xFF] {
            at += 1;
        }
        let marker = *bytes.get(at + 1).filter(|_| bytes[at] == 0xFF)?;
        let frame = matches!(marker, 0xC0..=0xCF) && !matches!(marker, 0xC4 | 0xC8 | 0xCC);
        if frame {
            return Some((be16(bytes, at + 7)?, be16(bytes, at + 5)?));
        }
        if matches!(marker, 0xD9 | 0xDA) {
            return None;
        }
        let alone = matches!(marker, 0x01 | 0xD0..=0xD8);
        at += 2 + if alone { 0 } else { usize::try_from(be16(bytes, at + 2)?).ok()? };
    }
}

/// Baseline, one gray; two bits for each block of 8 x 8; the padding is in comments.
fn jpeg((width, height): Size, len: usize, digest: &[u8; 32]) -> Option<Vec<u8>> {
    let (w, h) =
        (u16::try_from(width).ok()?.to_be_bytes(), u16::try_from(height).ok()?.to_be_bytes());
    let mut tail = vec![0xFF, 0xDB, 0, 67, 0];
    tail.extend_from_slice(&[1; 64]);
    tail.extend_from_slice(&[0xFF, 0xC0, 0, 11, 8, h[0], h[1], w[0], w[1], 1, 1, 0x11, 0]);
    for class in [0x00, 0x10] {
        // One code, of one bit, for "nothing".
        tail.extend_from_slice(&[0xFF, 0xC4, 0, 20, class, 1]);
        tail.extend_from_slice(&[0; 16]);
    }
    tail.extend_from_slice(&[0xFF, 0xDA, 0, 8, 1, 1, 0, 0, 63, 0]);
    let blocks = u64::from(width.div_ceil(8)) * u64::from(height.div_ceil(8));
    let bits = usize::try_from(blocks * 2).ok()?;
    tail.resize(tail.len() + bits / 8, 0);
    if bits % 8 > 0 {
        tail.push(0xFF >> (bits % 8));
    }
    tail.extend_from_slice(&[0xFF, 0xD9]);
    let mut room = len.checked_sub(2 + tail.len()).filter(|room| *room >= 4 + LEAST_DIGEST)?;
    let mut out = vec![0xFF, 0xD8];
    while room >= 4 {
        let data = (room - 4).min(usize::from(u16::MAX) - 2);
        out.extend_from_slice(&[0xFF, 0xFE]);
        out.extend_from_slice(&u16::try_from(data + 2).ok()?.to_be_bytes());
        out.extend(padding(data, digest));
        room -= 4 + data;
    }
    // What is too short for a comment: fill bytes before the next marker.
    out.resize(out.len() + room, 0xFF);
    out.extend(tail);
    Some(out)
}

// === GIF ===

fn gif_size(bytes: &[u8]) -> Option<Size> {
    Some((le16(bytes, 6)?, le16(bytes, 8)?))
}

/// Two colors, of which it uses one; the padding is in a comment.
fn gif((width, height): Size, len: usize, digest: &[u8; 32]) -> Option<Vec<u8>> {
    let (w, h) =
        (u16::try_from(width).ok()?.to_le_bytes(), u16::try_from(height).ok()?.to_le_bytes());
    let mut out = b"GIF89a".to_vec();
    out.extend_from_slice(&[w[0], w[1], h[0], h[1], 0x80, 0, 0, 128, 128, 128, 0, 0, 0]);
    let mut tail = vec![0x2C, 0, 0, 0, 0, w[0], w[1], h[0], h[1], 0, GIF_BITS];
    put_sub_blocks(&mut tail, &gif_run(u64::from(width) * u64::from(height)));
    tail.push(0x3B);
    // 21 FE, then blocks of up to 255 bytes with a length each, then 0.
    let mut room =
        len.checked_sub(out.len() + tail.len() + 3).filter(|room| *room > LEAST_DIGEST)?;
    out.extend_from_slice(&[0x21, 0xFE]);
    let mut data = padding(room, digest).into_iter();
    while room > 0 {
        let mut block = room.min(256);
        // A block has two bytes at least, its length and one more.
        block -= usize::from(room - block == 1);
        out.push(u8::try_from(block - 1).ok()?);
        out.extend(data.by_ref().take(block - 1));
        room -= block;
    }
    out.push(0);
    out.extend(tail);
    Some(out)
}

/// Bits of a color, at least 2 in GIF.
const GIF_BITS: u8 = 2;

/// Returns `pixels` of color 0 in LZW: each code stands for one pixel more than the one before it.
fn gif_run(pixels: u64) -> Vec<u8> {
    let clear = 1_u64 << GIF_BITS;
    let (mut out, mut bits, mut count) = (Vec::new(), 0_u64, 0);
    let mut put = |code: u64, width: u32| {
        bits |= code << count;
        count += width;
        while count >= 8 {
            out.push(bits.to_le_bytes()[0]);
            bits >>= 8;
            count -= 8;
        }
    };
    let first_width = u32::from(GIF_BITS) + 1;
    let (mut left, mut width) = (pixels, first_width);
    put(clear, width);
    // Pixels that the next code stands for, and the number of the code that the reader makes next.
    let (mut run, mut next) = (1, clear + 2);
    while left > 0 {
        let now = run.min(left);
        put(if now == 1 { 0 } else { clear + now }, width);
        left -= now;
        if run > 1 {
            next += 1;
        }
        if next == 1 << width && width < 12 {
            width += 1;
        }
        run += 1;
        if next == 4095 {
            put(clear, width);
            (run, next, width) = (1, clear + 2, first_width);
        }
    }
    put(clear + 1, width);
    put(0, 7);
    out
}

fn put_sub_blocks(out: &mut Vec<u8>, data: &[u8]) {
    for block in data.chunks(255) {
        out.push(u8::try_from(block.len()).unwrap_or(u8::MAX));
        out.extend_from_slice(block);
    }
    out.push(0);
}

// === WebP ===

fn webp_size(bytes: &[u8]) -> Option<Size> {
    match bytes.get(12..16)? {
        b"VP8X" => Some((le24(bytes, 24)? + 1, le24(bytes, 27)? + 1)),
        b"VP8L" => {
            let bits = le32(bytes, 21)?;
            Some(((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1))
        }
        b"VP8 " => Some((le16(bytes, 26)? & 0x3FFF, le16(bytes, 28)? & 0x3FFF)),
        _ => None,
    }
}

/// Lossless, codes of no bits; the padding is in a chunk of its own.
fn webp((width, height): Size, len: usize, digest: &[u8; 32]) -> Option<Vec<u8>> {
    if !(1..=1 << 14).contains(&width) || !(1..=1 << 14).contains(&height) {
        return None;
    }
    let size = |size: u32| (size - 1).to_le_bytes();
    let (w, h) = (size(width), size(height));
    let mut out = b"RIFF".to_vec();
    let riff = u32::try_from(len.checked_sub(8)? & !1).ok()?;
    out.extend_from_slice(&riff.to_le_bytes());
    out.extend_from_slice(b"WEBPVP8X\x0a\0\0\0\0\0\0\0");
    out.extend_from_slice(&[w[0], w[1], w[2], h[0], h[1], h[2]]);
    // Signature, 14 bits each of width and height, then no alpha, no transform, no cache, and five codes of one symbol.
    let mut bits = u64::from(width - 1) | u64::from(height - 1) << 14;
    for code in 0..5 {
        bits |= 1 << (35 + 4 * code);
    }
    out.extend_from_slice(b"VP8L\x08\0\0\0\x2f");
    out.extend_from_slice(&bits.to_le_bytes()[..7]);
    let room = len.checked_sub(out.len() + 8).filter(|room| *room > LEAST_DIGEST)?;
    out.extend_from_slice(b"rnct");
    out.extend_from_slice(&u32::try_from(room & !1).ok()?.to_le_bytes());
    // A last odd byte stands outside of the file's one chunk.
    out.extend(padding(room, digest));
    Some(out)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[track_caller]
    fn check(make: fn(Size, usize, &[u8; 32]) -> Option<Vec<u8>>, read: fn(&[u8]) -> Option<Size>) {
        for size in [(1, 1), (8, 8), (640, 480), (1023, 769), (3000, 17)] {
            for len in [20_000, 20_001, 90_003, 131_072] {
                let image = make(size, len, &[1; 32]).unwrap();
                assert_eq!(image.len(), len);
                assert_eq!(read(&image), Some(size), "{size:?}");
                // What is made of one is of its size, too.
                assert_eq!(standin(&image, &[2; 32]).as_deref().and_then(read), Some(size));
                assert_ne!(standin(&image, &[2; 32]), standin(&image, &[3; 32]));
            }
            assert_eq!(make(size, 20, &[1; 32]), None, "there is no room");
        }
    }

    #[test]
    fn images_have_format_size_and_length() {
        check(png, png_size);
        check(jpeg, jpeg_size);
        check(gif, gif_size);
        check(webp, webp_size);
    }

    #[test]
    fn a_png_holds_its_pixels() {
        let image = png((100, 50), 1000, &[1; 32]).unwrap();
        let at = image.windows(4).position(|name| name == b"IDAT").unwrap();
        let mut pixels = Vec::new();
        flate2::read::ZlibDecoder::new(&image[at + 4..]).read_to_end(&mut pixels).unwrap();
        assert_eq!(pixels, vec![0; 50 * (1 + 13)]);
    }

    /// Reads LZW as any viewer does, and returns how many pixels there are.
    fn pixels_of(data: &[u8]) -> u64 {
        let mut bits = data.iter().flat_map(|byte| (0..8).map(move |bit| byte >> bit & 1));
        let mut code =
            |width: u32| (0..width).map(|bit| u64::from(bits.next().unwrap()) << bit).sum::<u64>();
        let (mut width, mut lens, mut last, mut pixels) = (3, vec![1_u64; 6], None::<u64>, 0);
        loop {
            match code(width) {
                4 => {
                    lens.truncate(6);
                    (width, last) = (3, None);
                }
                5 => return pixels,
                code => {
                    if let Some(last) = last {
                        lens.push(last + 1);
                    }
                    let len = lens[usize::try_from(code).unwrap()];
                    pixels += len;
                    last = Some(len);
                    if lens.len() == 1 << width && width < 12 {
                        width += 1;
                    }
                }
            }
        }
    }

    #[test]
    fn a_gif_has_as_many_pixels_as_it_says() {
        for pixels in [1, 2, 3, 10, 640 * 480, 9_000_000, 20_000_123] {
            assert_eq!(pixels_of(&gif_run(pixels)), pixels);
        }
    }

    #[test]
    fn what_is_no_image_is_none() {
        for bytes in
            [&b""[..], b"\x89PNG", b"\xFF\xD8\xFF", b"GIF89a", b"RIFF\0\0\0\0WEBPVP8X", b"%PDF"]
        {
            assert_eq!(standin(bytes, &[0; 32]), None);
        }
        let lines = [&[0xFF, 0xD8][..], &[0xFF, 0xE0, 0, 0].repeat(9)].concat();
        assert_eq!(standin(&lines, &[0; 32]), None);
    }
}
