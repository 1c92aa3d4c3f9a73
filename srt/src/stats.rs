//! What is known of a connection's line.

use std::time::Duration;

use crate::raw::Trace;

/// Statistics of a connection. Counts are since it began; where not said otherwise of data packets.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Stats {
    /// Smoothed round-trip time.
    pub rtt: Duration,
    /// Received, with those that came again.
    pub received_packets: u64,
    /// Their bytes, with headers.
    pub received_bytes: u64,
    /// Found missing, whether they came later or not.
    pub receive_lost_packets: u64,
    /// Received that were sent again.
    pub receive_retransmitted_packets: u64,
    /// Given up, since they would have been too late (TLPKTDROP).
    pub receive_dropped_packets: u64,
    /// Not decrypted: a key was not known.
    pub undecrypted_packets: u64,
    /// What was received and waits for its time.
    pub receive_buffer: Duration,
    /// The same in bytes.
    pub receive_buffer_bytes: u64,
    /// How long what is received waits before it is handed out: the latency that both sides agreed upon.
    pub latency: Duration,
    /// Sent, with those that were sent again.
    pub sent_packets: u64,
    /// Their bytes, with headers.
    pub sent_bytes: u64,
    /// Reported missing by the receiver.
    pub send_lost_packets: u64,
    /// Sent again.
    pub retransmitted_packets: u64,
    /// Given up before they were sent, since they would have been too late (TLPKTDROP).
    pub send_dropped_packets: u64,
    /// What was sent and is not acknowledged.
    pub send_buffer: Duration,
    /// The same in bytes.
    pub send_buffer_bytes: u64,
}

fn count<N: TryInto<u64>>(number: N) -> u64 {
    // Never negative.
    number.try_into().unwrap_or(0)
}

fn ms<N: TryInto<u64>>(number: N) -> Duration {
    Duration::from_millis(count(number))
}

impl From<Trace> for Stats {
    fn from(trace: Trace) -> Self {
        Self {
            rtt: Duration::try_from_secs_f64(trace.ms_rtt / 1000.0).unwrap_or_default(),
            received_packets: count(trace.pkt_recv_total),
            received_bytes: trace.byte_recv_total,
            receive_lost_packets: count(trace.pkt_rcv_loss_total),
            receive_retransmitted_packets: count(trace.pkt_rcv_retrans),
            receive_dropped_packets: count(trace.pkt_rcv_drop_total),
            undecrypted_packets: count(trace.pkt_rcv_undecrypt_total),
            receive_buffer: ms(trace.ms_rcv_buf),
            receive_buffer_bytes: count(trace.byte_rcv_buf),
            latency: ms(trace.ms_rcv_tsbpd_delay),
            sent_packets: count(trace.pkt_sent_total),
            sent_bytes: trace.byte_sent_total,
            send_lost_packets: count(trace.pkt_snd_loss_total),
            retransmitted_packets: count(trace.pkt_retrans_total),
            send_dropped_packets: count(trace.pkt_snd_drop_total),
            send_buffer: ms(trace.ms_snd_buf),
            send_buffer_bytes: count(trace.byte_snd_buf),
        }
    }
}
