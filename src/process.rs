//! What this process uses of the machine, as the kernel counts it.

use std::fs;

/// Clock ticks a second in `/proc`: `USER_HZ`, part of Linux's interface to programs and always 100.
const USER_HZ: f64 = 100.0;

/// Processor time used so far, user and system, in seconds; 0 where there is no `/proc`.
pub(crate) fn cpu_seconds() -> f64 {
    fs::read_to_string("/proc/self/stat").ok().and_then(|stat| parse_cpu(&stat)).unwrap_or_default()
}

/// Memory that is resident, in bytes; 0 where there is no `/proc`.
pub(crate) fn memory_bytes() -> u64 {
    fs::read_to_string("/proc/self/status").ok().and_then(|status| parse_memory(&status)).unwrap_or_default()
}

/// proc(5): `utime` and `stime` are fields 14 and 15. The second field is the program's name in brackets
/// and may hold anything, so fields are counted behind the last bracket.
fn parse_cpu(stat: &str) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut times = fields.split_ascii_whitespace().skip(11).map(str::parse::<u32>);
    let (user, system) = (times.next()?.ok()?, times.next()?.ok()?);
    Some((f64::from(user) + f64::from(system)) / USER_HZ)
}

fn parse_memory(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_tables_are_read() {
        let stat = "7 (we) ir) S 1 7 7 0 -1 4194560 1 0 0 0 150 50 0 0 20 0 1 0 5 1 1";
        assert_eq!(parse_cpu(stat), Some(2.0));
        assert_eq!(parse_memory("Name:\tweir\nVmRSS:\t    1234 kB\n"), Some(1234 * 1024));
        assert_eq!(parse_cpu("7 (weir) S 1"), None);
        assert_eq!(parse_memory("VmRSS: much"), None);
    }

    #[test]
    fn a_living_process_uses_memory() {
        assert!(memory_bytes() > 0);
    }
}
