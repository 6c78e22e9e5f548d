//! A duplex stream of frames over anything that reads and writes bytes: a QUIC stream, or memory in the simulator.

use std::pin::Pin;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::frame::{self, Decoder, Frame, FrameError, Kind};
use crate::refusal::Refusal;

/// How much is read at once; a frame's buffer grows as bytes arrive, never by what its header claims.
const READ_STEP: usize = 64 << 10;

type Reader = Pin<Box<dyn AsyncRead + Send>>;
type Writer = Pin<Box<dyn AsyncWrite + Send>>;

/// The receiving half of a [`FrameStream`].
pub struct FrameReader {
    from: Reader,
    decoder: Decoder,
    buffer: BytesMut,
}

/// The sending half of a [`FrameStream`].
pub struct FrameWriter {
    to: Writer,
    limit: u32,
    next: u32,
    /// What is still to be written. Kept here so that dropping a `send` half-way never tears a frame.
    pending: BytesMut,
}

/// Both halves of a stream of frames.
#[derive(Debug)]
pub struct FrameStream {
    reader: FrameReader,
    writer: FrameWriter,
}

/// Reads one frame; `None` at a clean end. A refusal is an error.
pub(crate) async fn read_frame(
    from: &mut (impl AsyncRead + Unpin),
    decoder: &mut Decoder,
    buffer: &mut BytesMut,
) -> Result<Option<Frame>, FrameError> {
    loop {
        if let Some(frame) = decoder.decode(buffer)? {
            return match frame.kind {
                Kind::Refuse => Err(FrameError::Refused(Refusal::from_wire(&frame.body))),
                Kind::Data | Kind::Call | Kind::Reply | Kind::Open | Kind::Accept => Ok(Some(frame)),
            };
        }
        buffer.reserve(READ_STEP);
        if from.read_buf(buffer).await.map_err(FrameError::Io)? == 0 {
            return if decoder.at_boundary(buffer) { Ok(None) } else { Err(FrameError::Truncated) };
        }
    }
}

impl FrameReader {
    /// A reader of frames whose bodies are at most `limit` bytes.
    pub fn new(from: impl AsyncRead + Send + 'static, limit: u32) -> Self {
        Self { from: Box::pin(from), decoder: Decoder::new(limit), buffer: BytesMut::new() }
    }

    /// The next message, or `None` when the peer finished. Dropping the future loses nothing.
    ///
    /// # Errors
    /// When the peer refused, sent a bad frame, or the stream broke.
    pub async fn recv(&mut self) -> Result<Option<Bytes>, FrameError> {
        match self.recv_frame().await? {
            None => Ok(None),
            Some(Frame { kind: Kind::Data, body }) => Ok(Some(body)),
            Some(other) => Err(FrameError::Kind { got: other.kind as u8 }),
        }
    }

    /// The next frame of any kind; a refusal is an error.
    pub(crate) async fn recv_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        read_frame(&mut self.from, &mut self.decoder, &mut self.buffer).await
    }

    /// The next frame within `limit`.
    pub(crate) async fn recv_frame_within(&mut self, limit: Duration) -> Result<Option<Frame>, FrameError> {
        let timed_out = |_| FrameError::TimedOut { after: limit };
        tokio::time::timeout(limit, self.recv_frame()).await.map_err(timed_out)?
    }
}

impl FrameWriter {
    /// A writer of frames whose bodies are at most `limit` bytes.
    pub fn new(to: impl AsyncWrite + Send + 'static, limit: u32) -> Self {
        Self { to: Box::pin(to), limit, next: 0, pending: BytesMut::new() }
    }

    /// Sends one message. A future dropped half-way leaves the stream whole; the message may still go out.
    ///
    /// # Errors
    /// When the message exceeds the limit, or the stream broke.
    pub async fn send(&mut self, body: Bytes) -> Result<(), FrameError> {
        self.send_frame(Kind::Data, &body).await
    }

    pub(crate) async fn send_frame(&mut self, kind: Kind, body: &[u8]) -> Result<(), FrameError> {
        self.drain().await?;
        frame::encode(&mut self.pending, kind, self.next, body, self.limit)?;
        self.next = self.next.wrapping_add(1);
        self.drain().await
    }

    pub(crate) async fn send_frame_within(
        &mut self,
        kind: Kind,
        body: &[u8],
        limit: Duration,
    ) -> Result<(), FrameError> {
        let timed_out = |_| FrameError::TimedOut { after: limit };
        tokio::time::timeout(limit, self.send_frame(kind, body)).await.map_err(timed_out)?
    }

    /// Ends this direction with a reason.
    ///
    /// # Errors
    /// When the stream broke.
    pub async fn refuse(mut self, refusal: &Refusal) -> Result<(), FrameError> {
        self.send_frame(Kind::Refuse, &refusal.to_wire()).await?;
        self.finish().await
    }

    /// Ends this direction: the peer's `recv` returns `None` after the last message.
    ///
    /// # Errors
    /// When the stream broke.
    pub async fn finish(mut self) -> Result<(), FrameError> {
        self.drain().await?;
        self.to.shutdown().await.map_err(FrameError::Io)
    }

    async fn drain(&mut self) -> Result<(), FrameError> {
        while !self.pending.is_empty() {
            let written = self.to.write_buf(&mut self.pending).await.map_err(FrameError::Io)?;
            if written == 0 {
                return Err(FrameError::Io(std::io::ErrorKind::WriteZero.into()));
            }
        }
        self.to.flush().await.map_err(FrameError::Io)
    }
}

impl FrameStream {
    /// A stream over any reader and writer, with bodies of at most `limit` bytes.
    pub fn new(
        from: impl AsyncRead + Send + 'static,
        to: impl AsyncWrite + Send + 'static,
        limit: u32,
    ) -> Self {
        Self { reader: FrameReader::new(from, limit), writer: FrameWriter::new(to, limit) }
    }

    /// Two connected streams in memory; a writer waits once 64 KiB are unread.
    #[must_use]
    pub fn pair(limit: u32) -> (Self, Self) {
        let (left, right) = tokio::io::duplex(READ_STEP);
        let (left_read, left_write) = tokio::io::split(left);
        let (right_read, right_write) = tokio::io::split(right);
        (Self::new(left_read, left_write, limit), Self::new(right_read, right_write, limit))
    }

    /// Sends one message: [`FrameWriter::send`].
    ///
    /// # Errors
    /// As [`FrameWriter::send`].
    pub async fn send(&mut self, body: Bytes) -> Result<(), FrameError> {
        self.writer.send(body).await
    }

    /// The next message: [`FrameReader::recv`].
    ///
    /// # Errors
    /// As [`FrameReader::recv`].
    pub async fn recv(&mut self) -> Result<Option<Bytes>, FrameError> {
        self.reader.recv().await
    }

    /// Ends the sending direction with a reason, and stops reading.
    ///
    /// # Errors
    /// When the stream broke.
    pub async fn refuse(self, refusal: &Refusal) -> Result<(), FrameError> {
        self.writer.refuse(refusal).await
    }

    /// Ends the sending direction, and stops reading.
    ///
    /// # Errors
    /// When the stream broke.
    pub async fn finish(self) -> Result<(), FrameError> {
        self.writer.finish().await
    }

    /// The two halves, for tasks of their own.
    #[must_use]
    pub fn split(self) -> (FrameReader, FrameWriter) {
        (self.reader, self.writer)
    }

    pub(crate) fn reader(&mut self) -> &mut FrameReader {
        &mut self.reader
    }

    pub(crate) fn writer(&mut self) -> &mut FrameWriter {
        &mut self.writer
    }
}

impl std::fmt::Debug for FrameReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FrameReader").field("decoder", &self.decoder).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for FrameWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FrameWriter").field("next", &self.next).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::refusal::RefusalCode;

    #[tokio::test]
    async fn messages_arrive_in_order_and_the_end_is_clean() {
        let (mut left, mut right) = FrameStream::pair(1024);
        left.send(Bytes::from_static(b"one")).await.expect("sent");
        left.send(Bytes::new()).await.expect("sent");
        left.finish().await.expect("finished");
        assert_eq!(right.recv().await.expect("received").as_deref(), Some(&b"one"[..]));
        assert_eq!(right.recv().await.expect("received").as_deref(), Some(&b""[..]));
        assert_eq!(right.recv().await.expect("ended"), None);
    }

    #[tokio::test]
    async fn a_refusal_reaches_the_reader_with_its_reason() {
        let (left, mut right) = FrameStream::pair(1024);
        left.refuse(&Refusal::new(RefusalCode::NotFound, "no such lease")).await.expect("sent");
        let Err(FrameError::Refused(refusal)) = right.recv().await else { panic!("not refused") };
        assert_eq!((refusal.code(), refusal.message()), (RefusalCode::NotFound, "no such lease"));
    }

    #[tokio::test]
    async fn a_stream_cut_inside_a_frame_is_an_error() {
        let (mut raw, right) = tokio::io::duplex(64);
        let (read, write) = tokio::io::split(right);
        let mut stream = FrameStream::new(read, write, 1024);
        raw.write_all(&[frame::VERSION, 0, 0, 0]).await.expect("written");
        drop(raw);
        assert!(matches!(stream.recv().await, Err(FrameError::Truncated)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_send_dropped_half_way_does_not_tear_the_stream() {
        let (mut left, mut right) = FrameStream::pair(1 << 20);
        let big = Bytes::from(vec![7u8; 300 << 10]);
        let cut = tokio::time::timeout(Duration::from_millis(5), left.send(big.clone())).await;
        assert!(cut.is_err(), "nobody reads, so the send waits");
        let reader = tokio::spawn(async move {
            let first = right.recv().await.expect("first").expect("not the end");
            let second = right.recv().await.expect("second").expect("not the end");
            (first, second)
        });
        left.send(Bytes::from_static(b"after")).await.expect("sent");
        let (first, second) = reader.await.expect("joined");
        assert_eq!((first.len(), &second[..]), (big.len(), &b"after"[..]));
    }
}
