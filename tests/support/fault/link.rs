//! One client's link: the start-up, then two copying directions until either side, or a fault, ends it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::io::{
    AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, BufWriter,
};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::{Mode, Shared};

/// Codes of the first message that ask for an encrypted channel.
const ENCRYPTION_REQUESTS: [u32; 2] = [80_877_103, 80_877_104];
/// The server's message that ends a command, with the command's tag.
const COMMAND_COMPLETE: u8 = b'C';
/// The whole message by which our client commits: type, length, text, zero.
const COMMIT_QUERY: &[u8] = b"Q\0\0\0\x0bcommit\0";
/// A tag is short; longer messages are only copied.
const TAG_BYTES_MAX: u64 = 64;

pub(super) struct Link {
    shared: Arc<Shared>,
    mode: watch::Receiver<Mode>,
    generation: watch::Receiver<u64>,
}

impl Link {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { mode: shared.mode.subscribe(), generation: shared.generation.subscribe(), shared }
    }

    /// Serves the client until the link ends; both sockets close with this future.
    pub(super) async fn run(mut self, client: TcpStream) {
        let mut generation = self.generation.clone();
        let cut = generation.changed();
        tokio::select! {
            // Looked at first: a cut must not lose to a busy link.
            biased;
            Ok(()) = cut => { self.shared.links_cut.fetch_add(1, Ordering::SeqCst); }
            // However it ended, both sides learn it by their sockets closing.
            _ = self.serve(client) => {}
        }
    }

    async fn serve(&mut self, mut client: TcpStream) -> io::Result<()> {
        client.set_nodelay(true)?;
        self.may_pass().await;
        let first = decline_encryption(&mut client).await?;
        let mut server = TcpStream::connect(self.shared.upstream).await?;
        server.set_nodelay(true)?;
        server.write_all(&first).await?;
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let (mut up, mut down) = (self.mode.clone(), self.mode.clone());
        tokio::select! {
            ended = self.copy_bytes(from_client, to_server, &mut up) => ended,
            ended = self.copy_messages(from_server, to_client, &mut down) => ended,
        }
    }

    async fn may_pass(&mut self) {
        if *self.mode.borrow() == Mode::Hold {
            self.shared.links_held.fetch_add(1, Ordering::SeqCst);
        }
        may_pass(&mut self.mode).await;
    }

    /// Server to client. Every message after the start-up is a type byte, a length that counts itself, and a body.
    async fn copy_messages(
        &self,
        from: impl AsyncRead + Unpin,
        to: impl AsyncWrite + Unpin,
        mode: &mut watch::Receiver<Mode>,
    ) -> io::Result<()> {
        let mut from = BufReader::new(from);
        let mut to = BufWriter::new(to);
        loop {
            let kind = from.read_u8().await?;
            let length = from.read_u32().await?;
            let body = u64::from(length).checked_sub(4).ok_or(io::ErrorKind::InvalidData)?;
            if *mode.borrow() == Mode::Hold {
                self.shared.links_held.fetch_add(1, Ordering::SeqCst);
                may_pass(mode).await;
            }
            if kind == COMMAND_COMPLETE && body <= TAG_BYTES_MAX {
                let mut tag = vec![0; body as usize];
                from.read_exact(&mut tag).await?;
                if self.takes(&tag) {
                    return Ok(());
                }
                to.write_u8(kind).await?;
                to.write_u32(length).await?;
                to.write_all(&tag).await?;
            } else {
                to.write_u8(kind).await?;
                to.write_u32(length).await?;
                copy_body(&mut from, &mut to, body).await?;
            }
            // The client waits for what is buffered only when the server has nothing more to say.
            if from.buffer().is_empty() {
                to.flush().await?;
            }
        }
    }

    /// Client to server: bytes as they come. What was read before a hold is written after it.
    async fn copy_bytes(
        &self,
        mut from: impl AsyncRead + Unpin,
        mut to: impl AsyncWrite + Unpin,
        mode: &mut watch::Receiver<Mode>,
    ) -> io::Result<()> {
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let read = from.read(&mut buffer).await?;
            if read == 0 {
                return Ok(());
            }
            may_pass(mode).await;
            // The client sends it alone, once everything before it was answered: it is never in two pieces.
            let is_commit = buffer[..read].ends_with(COMMIT_QUERY);
            if is_commit && self.swallows() {
                return Ok(());
            }
            to.write_all(&buffer[..read]).await?;
        }
    }

    /// Whether a COMMIT is to be lost before it arrives; counts it.
    fn swallows(&self) -> bool {
        let one_less = |left: u64| left.checked_sub(1);
        let taken = self.shared.swallow.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less).is_ok();
        self.shared.commits_swallowed.fetch_add(u64::from(taken), Ordering::SeqCst);
        taken
    }

    /// Whether this command's answer is one to be lost; counts it.
    fn takes(&self, tag: &[u8]) -> bool {
        let mut lose = self.shared.lose.lock().expect("no holder panics");
        let (left, wanted) = &mut *lose;
        if *left == 0 || !tag.starts_with(wanted.as_bytes()) {
            return false;
        }
        *left -= 1;
        self.shared.answers_lost.fetch_add(1, Ordering::SeqCst);
        true
    }
}

/// `tokio::io::copy_buf` would flush after every row.
async fn copy_body(
    from: &mut (impl AsyncBufRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    mut left: u64,
) -> io::Result<()> {
    while left > 0 {
        let chunk = from.fill_buf().await?;
        if chunk.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let taken = chunk.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        to.write_all(&chunk[..taken]).await?;
        from.consume(taken);
        left -= taken as u64;
    }
    Ok(())
}

async fn may_pass(mode: &mut watch::Receiver<Mode>) {
    // The sender lives as long as the link; without it there is nothing to wait for.
    mode.wait_for(|mode| *mode != Mode::Hold).await.map(drop).ok();
}

/// Answers requests for encryption with a no; the start of the first message that is not one.
async fn decline_encryption(client: &mut TcpStream) -> io::Result<Vec<u8>> {
    loop {
        let (length, code) = (client.read_u32().await?, client.read_u32().await?);
        if length == 8 && ENCRYPTION_REQUESTS.contains(&code) {
            client.write_u8(b'N').await?;
            continue;
        }
        let mut first = length.to_be_bytes().to_vec();
        first.extend(code.to_be_bytes());
        return Ok(first);
    }
}
