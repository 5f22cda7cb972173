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

/// Makes a pipe: what is written to the second end is read from the first.
///
/// # Errors
/// What the system says, such as having no descriptor left.
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

/// Reads from a pipe, whose end comes when its last writer is gone.
#[derive(Debug)]
pub struct PipeReader {
    fd: AsyncFd<io::PipeReader>,
}

/// Writes to a pipe. Dropping the last writer is the end for the reader.
///
/// Writing to a pipe that has no reader is an error, [`BrokenPipe`](io::ErrorKind::BrokenPipe),
/// and never a `SIGPIPE`. Where the process did not ignore that signal when the writer was made,
/// as programs in Rust do unless they say otherwise, that takes two more system calls a write.
#[derive(Debug)]
pub struct PipeWriter {
    fd: AsyncFd<Quiet>,
}

/// A write end that raises no signal.
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
    /// Takes the read end of a pipe, such as a child's output, and makes it non-blocking.
    ///
    /// # Errors
    /// What the system says. [`InvalidInput`](io::ErrorKind::InvalidInput) for a file on a disk.
    pub fn from_std(reader: impl Into<OwnedFd>) -> io::Result<PipeReader> {
        Ok(PipeReader { fd: AsyncFd::new(reader.into().into())? })
    }

    /// Opens a FIFO to read from, whether or not somebody writes to it.
    ///
    /// It has no end: writers may come and go, since this side holds a write end too.
    ///
    /// # Errors
    /// What the system says; [`InvalidInput`](io::ErrorKind::InvalidInput) if it is no FIFO.
    ///
    /// # References
    /// [fifo(7)](https://man7.org/linux/man-pages/man7/fifo.7.html).
    pub fn open_fifo(path: impl AsRef<Path>) -> io::Result<PipeReader> {
        let file = open_fifo(path.as_ref(), OpenOptions::new().read(true).write(true))?;
        PipeReader::from_std(file)
    }

    /// Gives the end to the standard library, in blocking mode.
    ///
    /// # Errors
    /// What the system says.
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
    /// Takes the write end of a pipe, such as a child's input, and makes it non-blocking.
    ///
    /// # Errors
    /// What the system says. [`InvalidInput`](io::ErrorKind::InvalidInput) for a file on a disk.
    pub fn from_std(writer: impl Into<OwnedFd>) -> io::Result<PipeWriter> {
        Ok(PipeWriter { fd: AsyncFd::new(Quiet::new(writer.into()))? })
    }

    /// Opens a FIFO to write to. Somebody has to have it open for reading.
    ///
    /// # Errors
    /// What the system says: `ENXIO` if nobody reads.
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) if it is no FIFO.
    pub fn open_fifo(path: impl AsRef<Path>) -> io::Result<PipeWriter> {
        PipeWriter::from_std(open_fifo(path.as_ref(), OpenOptions::new().write(true))?)
    }

    /// Gives the end to the standard library, in blocking mode.
    ///
    /// # Errors
    /// What the system says.
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
        let message = format!("{} is no FIFO", path.display());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    Ok(file)
}
