//! A line for UDP that loses packets, the same of them each time.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

/// The longest datagram: no frame of Ethernet holds more.
const DATAGRAM_BYTES: usize = 2048;

/// Passes datagrams between one client and a server, until it is dropped.
pub struct Lossy {
    /// Where the client finds the server.
    pub at: SocketAddr,
    lost: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

/// Marsaglia's xorshift: who loses what by chance loses the same next time.
struct Chance(u64);

impl Chance {
    fn of(&mut self, per_mille: u64) -> bool {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % 1000 < per_mille
    }
}

impl Lossy {
    /// So many of a thousand are lost each way.
    pub async fn to(server: SocketAddr, per_mille: u64) -> Self {
        let inside = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        inside.connect(server).await.unwrap();
        let outside = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let (at, lost) = (outside.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
        let count = Arc::clone(&lost);
        let task = tokio::spawn(async move {
            let mut chances = [Chance(0x9e37_79b9_7f4a_7c15), Chance(0x2545_f491_4f6c_dd1d)];
            let (mut up, mut down) = ([0; DATAGRAM_BYTES], [0; DATAGRAM_BYTES]);
            let mut client = None;
            loop {
                // A peer that has gone is told of by errors, which say nothing here.
                tokio::select! {
                    Ok((bytes, from)) = outside.recv_from(&mut up) => {
                        client = Some(from);
                        if chances[0].of(per_mille) {
                            count.fetch_add(1, Ordering::Relaxed);
                        } else {
                            inside.send(&up[..bytes]).await.ok();
                        }
                    }
                    Ok(bytes) = inside.recv(&mut down) => {
                        if chances[1].of(per_mille) {
                            count.fetch_add(1, Ordering::Relaxed);
                        } else if let Some(client) = client {
                            outside.send_to(&down[..bytes], client).await.ok();
                        }
                    }
                }
            }
        });
        Self { at, lost, task }
    }

    /// How many were lost.
    pub fn lost(&self) -> usize {
        self.lost.load(Ordering::Relaxed)
    }
}

impl Drop for Lossy {
    fn drop(&mut self) {
        self.task.abort();
    }
}
