//! A stream whose peer must take what is written to it: one that takes nothing for a while is given up. Knows no HTTP.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

/// A stream that is written to with patience, up to a point.
pub(super) struct Patient<S> {
    stream: S,
    patience: Duration,
    /// Runs while the peer takes nothing of what there is for it.
    ends: Option<Pin<Box<Sleep>>>,
}

impl<S> Patient<S> {
    /// The same stream, for a peer that takes something at least this often.
    pub(super) fn new(stream: S, patience: Duration) -> Self {
        Self { stream, patience, ends: None }
    }

    /// What a write came to: itself, or the end of the patience.
    fn watched<T>(&mut self, written: Poll<io::Result<T>>, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.ends = None;
            return written;
        }
        let ends = self.ends.get_or_insert_with(|| Box::pin(sleep(self.patience)));
        ready!(ends.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer takes nothing")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.watched(written, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.watched(written, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _, duplex},
        time::Instant,
    };

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_nothing_is_given_up_after_a_while() {
        let (near, _far) = duplex(4);
        let mut near = Patient::new(near, PATIENCE);
        let begun = Instant::now();
        let error = near.write_all(b"123456").await.unwrap_err();
        assert_eq!((error.kind(), begun.elapsed()), (io::ErrorKind::TimedOut, PATIENCE));
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_a_little_now_and_then_is_waited_for() {
        let (near, mut far) = duplex(1);
        let mut near = Patient::new(near, PATIENCE);
        let reading = async {
            let mut taken = Vec::new();
            for _ in 0..6 {
                sleep(PATIENCE / 2).await;
                taken.push(far.read_u8().await.unwrap());
            }
            taken
        };
        let begun = Instant::now();
        let (written, taken) = tokio::join!(near.write_all(b"123456"), reading);
        assert!(written.is_ok() && taken == b"123456" && begun.elapsed() == PATIENCE * 3);
        // And between two writes nobody waits for anything.
        sleep(PATIENCE * 2).await;
        assert!(near.write_all(b"7").await.is_ok());
    }
}
