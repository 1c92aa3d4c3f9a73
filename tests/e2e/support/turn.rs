//! Tests that load the machine take turns, so that what they measure is weir and not a full core.

use tokio::sync::{Semaphore, SemaphorePermit};

/// Shares of the machine. Whoever asks for more waits until others are done; first come, first served.
const SHARES: u32 = 8;
static TURNS: Semaphore = Semaphore::const_new(SHARES as usize);

/// How much of the machine a test needs.
#[derive(Debug, Clone, Copy)]
pub enum Load {
    /// Media that was encoded before, hand-made clients.
    Light,
    /// An encoder of small pictures, and what pulls them.
    Encoder,
    /// An encoder of a heavy codec.
    HeavyEncoder,
    /// A browser that decodes and draws, or a measurement that nothing may disturb.
    Alone,
}

/// Waits for a turn, which lasts until the permit is dropped.
pub async fn take(load: Load) -> SemaphorePermit<'static> {
    let shares = match load {
        Load::Light => 1,
        Load::Encoder => 2,
        Load::HeavyEncoder => 4,
        Load::Alone => SHARES,
    };
    TURNS.acquire_many(shares).await.unwrap()
}
