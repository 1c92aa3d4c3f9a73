//! Datagrams on their way out: those of one size to one peer leave in one call (UDP segmentation offload).

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};

use quinn_udp::{Transmit, UdpSocketState};

use crate::metrics::Metrics;

/// Bytes that leave in one call: what the kernel takes is below 64 KiB.
const MAX_BATCH_BYTES: usize = 60_000;

/// See the module.
pub(super) struct Sender {
    state: UdpSocketState,
    metrics: Metrics,
    buffer: Vec<u8>,
    to: Option<(SocketAddr, Option<IpAddr>)>,
    /// The size of all in the buffer but the last.
    segment: usize,
    count: usize,
}

impl Sender {
    pub(super) fn new(socket: &UdpSocket, metrics: Metrics) -> io::Result<Self> {
        let state = UdpSocketState::new(socket.into())?;
        let buffer = Vec::with_capacity(MAX_BATCH_BYTES);
        Ok(Self { state, metrics, buffer, to: None, segment: 0, count: 0 })
    }

    pub(super) fn state(&self) -> &UdpSocketState {
        &self.state
    }

    /// Sends a datagram, from the address `from` if that is known: at the latest with the next [`Self::flush`].
    pub(super) fn send(&mut self, socket: &UdpSocket, to: SocketAddr, from: Option<IpAddr>, bytes: &[u8]) {
        let fits = self.to == Some((to, from))
            && bytes.len() <= self.segment
            && self.count < self.state.max_gso_segments()
            && self.buffer.len() + bytes.len() <= MAX_BATCH_BYTES;
        if !fits {
            self.flush(socket);
            self.to = Some((to, from));
            self.segment = bytes.len();
        }
        self.buffer.extend_from_slice(bytes);
        self.count += 1;
        if bytes.len() < self.segment {
            self.flush(socket);
        }
    }

    pub(super) fn flush(&mut self, socket: &UdpSocket) {
        let Some((destination, src_ip)) = self.to.take() else { return };
        let segment_size = (self.count > 1).then_some(self.segment);
        let transmit = Transmit { destination, ecn: None, contents: &self.buffer, segment_size, src_ip };
        match self.state.try_send(socket.into(), &transmit) {
            Ok(()) => self.metrics.sent.inc_by(self.count as u64),
            // Whoever lacks them asks for them again.
            Err(error) => {
                let full = error.kind() == io::ErrorKind::WouldBlock;
                let reason = if full { "socket_full" } else { "socket" };
                self.metrics.dropped.with_label_values(&[reason]).inc_by(self.count as u64);
            }
        }
        self.buffer.clear();
        self.count = 0;
    }
}
