use std::io::ErrorKind;

use polyloop::io::{FrameReader, FrameWriter, Framing};

use crate::bytes::{Pieces, split};

/// Reads frames from any bytes in any pieces, and writes them again.
///
/// # Panics
/// If a frame is lost, repeated or changed, or if the written bytes differ from those read.
pub fn frames(data: &[u8]) {
    let Some((seed, choice, bytes)) = split(data) else { return };
    let n_length_bytes = usize::from(choice & 7) + 1;
    let is_big_endian = choice & 8 == 0;
    let limit = if choice & 16 == 0 { 100 } else { 1 << 20 };
    let framing = if is_big_endian {
        Framing::big_endian(n_length_bytes)
    } else {
        Framing::little_endian(n_length_bytes)
    };
    let framing = framing.with_limit(limit);
    polyloop::run(async {
        let mut reader = FrameReader::new(Pieces::new(bytes, seed), framing);
        let mut writer = FrameWriter::new(Vec::new(), framing);
        let mut rest = bytes;
        let mut n_read = 0;
        loop {
            let expected = next_frame(&mut rest, n_length_bytes, is_big_endian, limit);
            match (reader.next().await, expected) {
                (Ok(frame), Ok(expected)) => assert_eq!(frame, expected),
                (Err(error), Err(kind)) => {
                    assert_eq!(error.kind(), kind);
                    assert_eq!(reader.next().await.expect("the error is not repeated"), None);
                    break;
                }
                (read, expected) => panic!("{read:?} instead of {expected:?}"),
            }
            let Ok(Some(frame)) = expected else { break };
            writer.queue(frame).expect("what was read can be written");
            n_read += n_length_bytes + frame.len();
            if choice & 32 == 0 {
                writer.flush().await.expect("a vector takes all");
            }
        }
        writer.flush().await.expect("a vector takes all");
        let (written, queued) = writer.into_parts();
        assert!(queued.is_empty(), "{} bytes were not flushed", queued.len());
        assert_eq!(written, bytes[..n_read]);
    })
    .expect("a loop");
}

/// Takes the next frame from `rest`: the model.
fn next_frame<'a>(
    rest: &mut &'a [u8],
    n_length_bytes: usize,
    is_big_endian: bool,
    limit: usize,
) -> Result<Option<&'a [u8]>, ErrorKind> {
    if rest.is_empty() {
        return Ok(None);
    }
    let Some((head, body)) = rest.split_at_checked(n_length_bytes) else {
        return Err(ErrorKind::UnexpectedEof);
    };
    let add = |sum: u128, byte: &u8| sum << 8 | u128::from(*byte);
    let length =
        if is_big_endian { head.iter().fold(0, add) } else { head.iter().rev().fold(0, add) };
    if length > limit as u128 {
        return Err(ErrorKind::InvalidData);
    }
    let Some((frame, after)) = body.split_at_checked(length as usize) else {
        return Err(ErrorKind::UnexpectedEof);
    };
    *rest = after;
    Ok(Some(frame))
}
