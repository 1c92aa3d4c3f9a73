//! A client's socket under TLS (RFC 8446): what is shared by all viewers is encrypted for each, here.

use std::io::{self, IoSlice, Read, Write};
use std::net::Shutdown;

use mio::net::TcpStream;
use rustls::ServerConnection;

use super::link::{Io, unbroken};

/// Encrypted at once, and what of it waits for room in the socket: as much as a client's turn.
const MAX_WAITING_BYTES: usize = 64 * 1024;

/// A connection after its handshake, and its socket.
pub(crate) struct Sealed {
    pub(super) socket: TcpStream,
    tls: ServerConnection,
    /// The last byte that was given was encrypted with those before it, but its record was not all taken. Only then is
    /// the byte said to be written, so whoever is done has nothing left here.
    owes: bool,
}

impl Sealed {
    /// The socket is connected and in non-blocking mode, and nothing is on its way between the two.
    pub(crate) fn new(socket: std::net::TcpStream, mut tls: ServerConnection) -> Self {
        tls.set_buffer_limit(Some(MAX_WAITING_BYTES));
        Self { socket: TcpStream::from_std(socket), tls, owes: false }
    }

    /// Writes until all is written or the socket is full. After the latter it is called with the rest of the same bytes.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Io {
        if let stop @ (Io::Later | Io::Gone) = self.flush() {
            return stop;
        }
        let mut done = usize::from(std::mem::take(&mut self.owes)).min(bytes.len());
        while let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) {
            done += match self.tls.writer().write(rest) {
                Ok(0) | Err(_) => return Io::Gone,
                Ok(len) => len,
            };
            match self.flush() {
                Io::Done(_) => {}
                // One byte can't be given in two parts; its record goes before whatever comes next.
                Io::Later if done == bytes.len() && done > 1 => {
                    self.owes = true;
                    return Io::Done(done - 1);
                }
                Io::Later => break,
                Io::Gone => return Io::Gone,
            }
        }
        Io::Done(done)
    }

    /// The same for bytes in several places.
    pub(super) fn write_all_of(&mut self, slices: &[IoSlice<'_>]) -> Io {
        let mut all = 0;
        for slice in slices {
            match self.write(slice) {
                Io::Done(len) => {
                    all += len;
                    if len < slice.len() {
                        break;
                    }
                }
                Io::Later if all > 0 => break,
                stop => return stop,
            }
        }
        Io::Done(all)
    }

    /// Writes what was encrypted.
    fn flush(&mut self) -> Io {
        while self.tls.wants_write() {
            match unbroken(|| self.tls.write_tls(&mut self.socket)) {
                Io::Done(_) => {}
                stop => return stop,
            }
        }
        Io::Done(0)
    }

    /// Reads until there is something that the client says to the protocol above. What it says to TLS alone is bounded:
    /// rustls ends a connection that goes on with it.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Io {
        loop {
            match self.tls.reader().read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return result.into(),
            }
            if let stop @ (Io::Later | Io::Gone) = unbroken(|| self.tls.read_tls(&mut self.socket)) {
                return stop;
            }
            let heard = self.tls.process_new_packets();
            // An answer to what was heard, or why it was no TLS.
            let flushed = self.flush();
            if heard.is_err() || flushed == Io::Gone {
                return Io::Gone;
            }
        }
    }

    /// Says goodbye; nothing more is written.
    pub(super) fn finish(&mut self) {
        self.tls.send_close_notify();
        self.flush();
        // Who is gone by now is noticed by reading.
        drop(self.socket.shutdown(Shutdown::Write));
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::sync::Arc;
    use std::thread;

    use mio::{Events, Interest, Poll, Token};
    use rustls::crypto::ring;
    use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
    use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, StreamOwned};

    use super::*;

    /// A connection after its handshake.
    fn pair() -> (Sealed, StreamOwned<ClientConnection, std::net::TcpStream>) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let provider = Arc::new(ring::default_provider());
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut far = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut near, _) = listener.accept().unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let mut client = ClientConnection::new(Arc::new(client), name).unwrap();
        let mut server = ServerConnection::new(Arc::new(server)).unwrap();
        let shaking = thread::spawn(move || {
            server.complete_io(&mut near).unwrap();
            (near, server)
        });
        client.complete_io(&mut far).unwrap();
        let (near, server) = shaking.join().unwrap();
        near.set_nonblocking(true).unwrap();
        (Sealed::new(near, server), StreamOwned::new(client, far))
    }

    /// Waits until the socket can be read or written again.
    fn wait(poll: &mut Poll) {
        poll.poll(&mut Events::with_capacity(1), None).unwrap();
    }

    fn watch(sealed: &mut Sealed) -> Poll {
        let poll = Poll::new().unwrap();
        let both = Interest::READABLE | Interest::WRITABLE;
        poll.registry().register(&mut sealed.socket, Token(0), both).unwrap();
        poll
    }

    #[test]
    fn what_a_full_socket_interrupts_goes_on_without_a_byte_lost_or_doubled() {
        let (mut sealed, mut client) = pair();
        let mut poll = watch(&mut sealed);
        let all: Vec<u8> = (0..=u8::MAX).cycle().take(20_000_000).collect();
        let expected = all.clone();
        let (go, may_go) = std::sync::mpsc::sync_channel(1);
        let reading = thread::spawn(move || {
            may_go.recv().unwrap();
            let mut heard = vec![0; expected.len()];
            client.read_exact(&mut heard).unwrap();
            assert!(heard == expected);
            // A regular end, which only a goodbye makes.
            assert_eq!(client.read(&mut [0]).unwrap(), 0);
        });
        // Pieces of every size, none of which is ever cut otherwise than by the socket.
        let (mut at, mut piece, mut full) = (0, 1, 0);
        while at < all.len() {
            let end = all.len().min(at + piece);
            match sealed.write(&all[at..end]) {
                Io::Done(len) => at += len,
                Io::Later => {
                    full += 1;
                    let _ = go.try_send(());
                    wait(&mut poll);
                }
                Io::Gone => panic!("gone"),
            }
            if at == end {
                piece = piece * 7 % 150_001 + 1;
            } else {
                // What is left of a piece is given again before anything else.
                piece = end - at;
            }
        }
        sealed.finish();
        assert!(full > 0);
        reading.join().unwrap();
    }

    #[test]
    fn what_is_heard_is_what_was_said_and_a_goodbye_is_the_end() {
        let (mut sealed, mut client) = pair();
        let mut poll = watch(&mut sealed);
        let said: Vec<u8> = (0..=u8::MAX).cycle().take(100_000).collect();
        let expected = said.clone();
        let saying = thread::spawn(move || {
            client.write_all(&said).unwrap();
            client.conn.send_close_notify();
            client.flush().unwrap();
            client
        });
        let mut heard = Vec::new();
        let mut buffer = [0; 2048];
        loop {
            match sealed.read(&mut buffer) {
                Io::Done(len) => heard.extend_from_slice(&buffer[..len]),
                Io::Later => wait(&mut poll),
                Io::Gone => break,
            }
        }
        assert!(heard == expected);
        saying.join().unwrap();
    }

    #[test]
    fn who_speaks_no_tls_or_asks_for_new_keys_without_end_is_hung_up_on() {
        for floods in [true, false] {
            let (mut sealed, mut client) = pair();
            let mut poll = watch(&mut sealed);
            let saying = thread::spawn(move || {
                if !floods {
                    return client.sock.write_all(b"GET / HTTP/1.1\r\n\r\n").map(|()| client);
                }
                for _ in 0..100 {
                    client.conn.refresh_traffic_keys().unwrap();
                    // Fails once it was hung up.
                    client.flush()?;
                }
                Ok(client)
            });
            let mut buffer = [0; 2048];
            loop {
                match sealed.read(&mut buffer) {
                    Io::Done(_) => panic!("nothing was said"),
                    Io::Later => wait(&mut poll),
                    Io::Gone => break,
                }
            }
            drop(sealed);
            let _ = saying.join().unwrap();
        }
    }
}
