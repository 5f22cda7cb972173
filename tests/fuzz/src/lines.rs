use std::io::ErrorKind;

use polyloop::io::{BufReader, TooLong};

use crate::bytes::{Pieces, split};

/// Reads lines, and parts between other delimiters, from a stream of any bytes in any pieces.
///
/// # Panics
/// If a line is lost, repeated or changed, or if reading does not end.
pub fn lines(data: &[u8]) {
    let Some((seed, choice, bytes)) = split(data) else { return };
    // Every other input can exceed the limit.
    let limit = if choice & 1 == 0 { 64 } else { 1 << 20 };
    let delimiter = if choice & 2 == 0 { b'\n' } else { b';' };
    polyloop::run(async {
        read_parts(bytes, seed, limit, delimiter).await;
        read_lines(bytes, seed, limit).await;
    })
    .expect("a loop");
}

/// The parts up to and including each delimiter, and the remainder.
fn parts_of(bytes: &[u8], delimiter: u8) -> impl Iterator<Item = &[u8]> {
    bytes.split_inclusive(move |byte| *byte == delimiter)
}

/// Asserts that `error` reports a part over the limit.
fn assert_too_long(error: &std::io::Error, part: &[u8], limit: usize) {
    assert_eq!(TooLong::from_error(error).expect("an error of the limit").limit(), limit);
    assert!(part.len() > limit, "{} bytes are within the limit", part.len());
}

/// Reads every part: one over the limit is one error, and the next one is read.
async fn read_parts(bytes: &[u8], seed: u8, limit: usize, delimiter: u8) {
    let mut reader = BufReader::with_limit(Pieces::new(bytes, seed), limit);
    for expected in parts_of(bytes, delimiter) {
        match reader.read_until(delimiter).await {
            Ok(part) => {
                assert_eq!(part, Some(expected));
                assert!(expected.len() <= limit, "{} bytes are over the limit", expected.len());
            }
            Err(error) => assert_too_long(&error, expected, limit),
        }
        assert!(reader.buffer().len() <= limit, "more is buffered than the limit allows");
    }
    assert_eq!(reader.read_until(delimiter).await.expect("the end"), None);
}

async fn read_lines(bytes: &[u8], seed: u8, limit: usize) {
    let mut reader = BufReader::with_limit(Pieces::new(bytes, seed), limit);
    for expected in parts_of(bytes, b'\n') {
        let text = expected
            .strip_suffix(b"\n")
            .map_or(expected, |line| line.strip_suffix(b"\r").unwrap_or(line));
        match (reader.next_line().await, str::from_utf8(text)) {
            (Ok(line), Ok(text)) => assert_eq!(line, Some(text)),
            (Err(error), Err(_)) if expected.len() <= limit => {
                assert_eq!(
                    (error.kind(), TooLong::from_error(&error)),
                    (ErrorKind::InvalidData, None)
                );
            }
            (Err(error), _) => assert_too_long(&error, expected, limit),
            (Ok(line), Err(_)) => panic!("{line:?} was not UTF-8"),
        }
    }
    assert_eq!(reader.next_line().await.expect("the end"), None);
}
