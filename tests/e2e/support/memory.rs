//! How much memory a process holds.

use std::cell::Cell;
use std::time::Duration;

use super::weir::Weir;
use super::{until, within};

/// What a misbehaving client may cost, while it is there and afterwards.
pub const ONE_MB: u64 = 1 << 20;

/// How long the allocator may keep pages. Not longer: the innocent stream's own window still grows.
const PATIENCE: Duration = Duration::from_secs(20);

/// Bytes of anonymous memory: heap and stacks. Pages of the binary itself, which are read in as code is
/// first run, are not the doing of whoever made it run.
pub fn anonymous_bytes(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("Anonymous:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// Bytes of memory that are resident: the most since [`forget_peak`].
fn peak_bytes(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// From now on the peak is counted anew (proc(5), `clear_refs`).
fn forget_peak(pid: u32) {
    std::fs::write(format!("/proc/{pid}/clear_refs"), "5").unwrap();
}

/// Runs an attack twice. The first round lets the process take what it takes once (threads' arenas, lazily
/// made tables); after the second it must come back to less than one megabyte above what it held after the first, and
/// stay usable. In neither may it hold a megabyte more than before the first, as the kernel counts it.
pub async fn assert_costs_less_than_1_mb<F: Future<Output = ()>>(weir: &Weir, mut attack: impl FnMut() -> F) {
    let pid = weir.process.pid();
    forget_peak(pid);
    let calm = peak_bytes(pid);
    within("the first round", attack()).await;
    let before = anonymous_bytes(pid);
    within("the second round", attack()).await;
    let peak = peak_bytes(pid).saturating_sub(calm);
    super::say(&format!("{} KiB more at most while the attack lasted", peak >> 10));
    assert!(peak < ONE_MB, "{peak} bytes more while the attack lasted");
    // The allocator gives pages back with a delay.
    let least = Cell::new(u64::MAX);
    let given_back = until("memory to be given back", async || {
        least.set(least.get().min(anonymous_bytes(pid)));
        (least.get() < before + ONE_MB).then_some(())
    });
    if tokio::time::timeout(PATIENCE, given_back).await.is_err() {
        panic!(
            "{before} bytes before the second round, never fewer than {} in {PATIENCE:?} after it",
            least.get()
        );
    }
    let health = weir.admin("/healthz").await;
    assert_eq!(health.status, 200);
}
