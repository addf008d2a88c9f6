//! Parked messages, compressed: the broker writes each twice for every hop, and holds up everything for a moment whenever its log
//! is full. Pure.

use std::io::{self, Read as _};

use bytes::Bytes;
use flate2::{Compress, Compression, FlushCompress, Status, read::ZlibDecoder};

/// Less than this is not worth it.
const FROM_BYTES: usize = 512;

/// Large messages stay as they are: compressing them takes milliseconds.
pub(super) const UP_TO_BYTES: usize = 64 * 1024;

/// A message that is compressed is no larger than this part of itself.
const WORTH_IT: (usize, usize) = (7, 8);

/// A zlib stream (RFC 1950) of a message; `None` where that is not worth it.
pub(super) fn pack(body: &[u8]) -> Option<Vec<u8>> {
    if !(FROM_BYTES..=UP_TO_BYTES).contains(&body.len()) {
        return None;
    }
    // What finds no room in it is not worth it.
    let mut packed = Vec::with_capacity(body.len() * WORTH_IT.0 / WORTH_IT.1);
    let status = Compress::new(Compression::fast(), true).compress_vec(body, &mut packed, FlushCompress::Finish);
    matches!(status, Ok(Status::StreamEnd)).then_some(packed)
}

/// Reads what [`pack`] wrote, up to so many bytes.
pub(super) fn unpack(packed: &[u8], room: usize) -> io::Result<Bytes> {
    let mut body = Vec::with_capacity(packed.len().saturating_mul(4).min(room + 1));
    ZlibDecoder::new(packed).take(room as u64 + 1).read_to_end(&mut body)?;
    if body.len() > room {
        return Err(io::Error::other(format!("more than {UP_TO_BYTES} bytes in all")));
    }
    // It stays in hand as long as its events do.
    body.shrink_to_fit();
    Ok(body.into())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::write::ZlibEncoder;
    use proptest::{collection::vec, prelude::*};

    use super::*;

    proptest! {
        #[test]
        fn what_is_packed_is_smaller_and_the_same_when_unpacked(word in vec(any::<u8>(), 1..40), times in 1..2_000usize) {
            let body = word.repeat(times);
            let packed = pack(&body);
            let is_worth_it = (4 * FROM_BYTES..=UP_TO_BYTES).contains(&body.len());
            prop_assert!(packed.is_some() || !is_worth_it);
            if let Some(packed) = packed {
                prop_assert!(packed.len() * 8 <= body.len() * 7);
                prop_assert_eq!(unpack(&packed, body.len()).unwrap(), body);
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..400)) {
            drop(unpack(&bytes, UP_TO_BYTES));
        }
    }

    #[test]
    fn what_is_small_or_large_or_has_no_pattern_stays_as_it_is() {
        let worth_it = |bytes: usize| pack(&vec![7; bytes]).is_some();
        assert_eq!([511, 512, 65_536, 65_537].map(worth_it), [false, true, true, false]);
        let mut state = 1u32;
        let noise = std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0]
        });
        assert_eq!(pack(&noise.take(2048).collect::<Vec<_>>()), None);
    }

    #[test]
    fn nothing_is_unpacked_beyond_what_is_ever_packed() {
        let zlib = |bytes: usize| {
            let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(&vec![0; bytes]).unwrap();
            encoder.finish().unwrap()
        };
        assert_eq!(unpack(&zlib(UP_TO_BYTES), UP_TO_BYTES).unwrap().len(), UP_TO_BYTES);
        let error = unpack(&zlib(UP_TO_BYTES + 1), UP_TO_BYTES).unwrap_err();
        assert!(error.to_string().contains("more than 65536 bytes"), "{error}");
        assert!(unpack(&zlib(100 * UP_TO_BYTES), UP_TO_BYTES).is_err());
        let cut = zlib(5000);
        assert!(unpack(&cut[..cut.len() - 1], UP_TO_BYTES).is_err(), "what is cut off is not taken for all");
    }
}
