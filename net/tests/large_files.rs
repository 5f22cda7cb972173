//! Aim: files beyond 2 GiB and beyond the year 2038 work like any other, also on 32-bit systems.

use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::time::{Duration, SystemTime};

use polyloop_net::AsyncFd;

const GIBIBYTE: u64 = 1 << 30;

/// Returns an empty file without a name.
fn temporary(name: &str) -> File {
    let path = std::env::temp_dir().join(format!("polyloop-{name}-{}", std::process::id()));
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path).unwrap();
    std::fs::remove_file(path).unwrap();
    file
}

#[test]
fn a_large_or_late_file_is_refused_as_a_file() {
    let large = temporary("large");
    large.set_len(5 * GIBIBYTE).unwrap();
    let late = temporary("late");
    // Not every file system supports such dates.
    let _ = late.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(3 << 30));
    for file in [large, late] {
        let error = AsyncFd::new(file).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    }
}

// Where a `TcpStream` has `send_file`.
#[cfg(any(
    target_os = "linux",
    target_os = "android",
    target_os = "freebsd",
    target_vendor = "apple"
))]
#[test]
fn a_file_is_sent_from_an_offset_beyond_32_bits() {
    use std::io::Read;
    use std::net;
    use std::os::unix::fs::FileExt;

    use polyloop_net::TcpStream;

    let file = temporary("sent");
    file.set_len(5 * GIBIBYTE).unwrap();
    for offset in [GIBIBYTE, 2 * GIBIBYTE - 3, 2 * GIBIBYTE, 3 * GIBIBYTE, 4 * GIBIBYTE - 3] {
        file.write_all_at(b"marked", offset).unwrap();
        let listener = net::TcpListener::bind("127.0.0.1:0").unwrap();
        let client = net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        let mut range = offset..offset + 6;
        polyloop_executor::run(async {
            let client = TcpStream::from_std(client).unwrap();
            client.send_file(&file, &mut range).await.unwrap();
        })
        .unwrap();
        let mut received = Vec::new();
        server.read_to_end(&mut received).unwrap();
        assert_eq!(received, b"marked", "from {offset} on");
    }
}
