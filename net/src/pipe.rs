//! Pipes and FIFOs.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use polyloop_reactor::socket::{NoSignal, OPEN_NONBLOCK};

use crate::AsyncFd;
use crate::async_fd::into_std;
use crate::byte_stream::{TryWrite, reading, writing};

/// Creates a pipe: data written to the second end is read from the first.
///
/// # References
/// [pipe(2)](https://man7.org/linux/man-pages/man2/pipe.2.html).
///
/// # Examples
/// ```
/// # polyloop::run(async {
/// let (reader, writer) = polyloop::net::pipe()?;
/// writer.write_all(b"hello").await?;
/// drop(writer);
///
/// let mut buf = [0; 16];
/// assert_eq!(reader.read(&mut buf).await?, 5);
/// assert_eq!(reader.read(&mut buf).await?, 0);
/// # Ok::<(), std::io::Error>(())
/// # }).unwrap().unwrap();
/// ```
pub fn pipe() -> io::Result<(PipeReader, PipeWriter)> {
    let (reader, writer) = io::pipe()?;
    Ok((PipeReader::from_std(reader)?, PipeWriter::from_std(writer)?))
}

/// The read end of a pipe. The stream ends when the last write end is closed.
#[derive(Debug)]
pub struct PipeReader {
    fd: AsyncFd<io::PipeReader>,
}

/// The write end of a pipe.
///
/// Writing to a pipe without a read end fails with [`BrokenPipe`](io::ErrorKind::BrokenPipe) and never
/// raises `SIGPIPE`. That takes two more system calls per write unless the process ignored the signal when
/// the writer was created, as Rust programs do by default.
#[derive(Debug)]
pub struct PipeWriter {
    fd: AsyncFd<Quiet>,
}

/// A write end that never raises `SIGPIPE`.
#[derive(Debug)]
pub(crate) struct Quiet {
    pipe: io::PipeWriter,
    no_signal: NoSignal,
}

impl Quiet {
    fn new(pipe: OwnedFd) -> Quiet {
        Quiet { pipe: pipe.into(), no_signal: NoSignal::new() }
    }
}

impl AsFd for Quiet {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

impl TryWrite for Quiet {
    fn try_write(&self, buf: &[u8]) -> io::Result<usize> {
        self.no_signal.call(|| (&self.pipe).write(buf))
    }

    fn try_write_vectored(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.no_signal.call(|| (&self.pipe).write_vectored(bufs))
    }
}

impl PipeReader {
    /// Creates a reader from the read end of a pipe, such as the output of a child process, and makes it
    /// non-blocking.
    ///
    /// # Errors
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) for a regular file.
    pub fn from_std(reader: impl Into<OwnedFd>) -> io::Result<PipeReader> {
        Ok(PipeReader { fd: AsyncFd::new(reader.into().into())? })
    }

    /// Opens a FIFO for reading, even if no process has it open for writing.
    ///
    /// The stream does not end when writers close the FIFO, since this reader holds a write end itself.
    ///
    /// # Errors
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) if the file is not a FIFO.
    ///
    /// # References
    /// [fifo(7)](https://man7.org/linux/man-pages/man7/fifo.7.html).
    pub fn open_fifo(path: impl AsRef<Path>) -> io::Result<PipeReader> {
        let file = open_fifo(path.as_ref(), OpenOptions::new().read(true).write(true))?;
        PipeReader::from_std(file)
    }

    /// Converts the end into the standard library's type, in blocking mode.
    pub fn into_std(self) -> io::Result<io::PipeReader> {
        let reader = into_std(self.fd, io::PipeReader::try_clone)?;
        socket2::SockRef::from(&reader).set_nonblocking(false)?;
        Ok(reader)
    }

    pub(crate) fn fd(&self) -> &AsyncFd<io::PipeReader> {
        &self.fd
    }
}

impl PipeWriter {
    /// Creates a writer from the write end of a pipe, such as the input of a child process, and makes it
    /// non-blocking.
    ///
    /// # Errors
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) for a regular file.
    pub fn from_std(writer: impl Into<OwnedFd>) -> io::Result<PipeWriter> {
        Ok(PipeWriter { fd: AsyncFd::new(Quiet::new(writer.into()))? })
    }

    /// Opens a FIFO for writing. A process must have it open for reading.
    ///
    /// # Errors
    /// `ENXIO` if no process has it open for reading;
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) if the file is not a FIFO.
    pub fn open_fifo(path: impl AsRef<Path>) -> io::Result<PipeWriter> {
        PipeWriter::from_std(open_fifo(path.as_ref(), OpenOptions::new().write(true))?)
    }

    /// Converts the end into the standard library's type, in blocking mode.
    pub fn into_std(self) -> io::Result<io::PipeWriter> {
        let try_clone = |quiet: &Quiet| quiet.pipe.try_clone().map(|pipe| Quiet::new(pipe.into()));
        let writer = into_std(self.fd, try_clone)?.pipe;
        socket2::SockRef::from(&writer).set_nonblocking(false)?;
        Ok(writer)
    }

    pub(crate) fn fd(&self) -> &AsyncFd<Quiet> {
        &self.fd
    }
}

reading!(PipeReader);
writing!(PipeWriter);

impl AsFd for PipeReader {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsFd for PipeWriter {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn open_fifo(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let file = options.custom_flags(OPEN_NONBLOCK).open(path)?;
    if !file.metadata()?.file_type().is_fifo() {
        let message = format!("{} is not a FIFO", path.display());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    Ok(file)
}
