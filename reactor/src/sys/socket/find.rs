//! The C library's search for a byte.

use libc::c_int;

/// Whether [`find_byte`] uses the widest vectors of the processor. Other C libraries than these examine one
/// word or one byte after another.
pub const FIND_BYTE_IS_FAST: bool = cfg!(any(target_env = "gnu", target_vendor = "apple"));

/// Returns the position of the first `byte`.
///
/// # References
/// [memchr(3)](https://man7.org/linux/man-pages/man3/memchr.3.html).
///
/// # Examples
/// ```
/// use polyloop::driver::socket::find_byte;
///
/// assert_eq!(find_byte(b'\n', b"line\nnext\n"), Some(4));
/// assert_eq!(find_byte(b'\n', b"line"), None);
/// ```
#[inline]
pub fn find_byte(byte: u8, bytes: &[u8]) -> Option<usize> {
    // SAFETY: `bytes` is valid for reads of its length.
    let found = unsafe { libc::memchr(bytes.as_ptr().cast(), c_int::from(byte), bytes.len()) };
    (!found.is_null()).then(|| found.addr() - bytes.as_ptr().addr())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_byte_is_found_wherever_it_is() {
        for byte in [0, b'\n', 0xff] {
            for length in 0..200 {
                let mut bytes = vec![byte ^ 1; length];
                assert_eq!(find_byte(byte, &bytes), None);
                for place in (0..length).rev() {
                    bytes[place] = byte;
                    assert_eq!(find_byte(byte, &bytes), Some(place));
                }
            }
        }
    }
}
