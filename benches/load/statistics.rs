//! Percentiles, and tables of what was measured.

use std::time::Duration;

/// The value that `share` of all are not above (nearest rank); zero where there are none.
pub(crate) fn percentile(values: &mut [Duration], share: f64) -> Duration {
    values.sort_unstable();
    let rank = (values.len() as f64 * share).ceil() as usize;
    values.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

/// Milliseconds.
pub(crate) fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Rows in columns: the first on the left, the others on the right.
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// With a head.
    pub(crate) fn new(head: &[&str]) -> Self {
        Self { rows: vec![head.iter().map(ToString::to_string).collect()] }
    }

    /// One more row.
    pub(crate) fn push(&mut self, row: Vec<String>) {
        self.rows.push(row);
    }

    /// As Markdown that is aligned, too.
    pub(crate) fn render(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or_default();
        let cell = |row: &[String], at: usize| row.get(at).cloned().unwrap_or_default();
        let widths: Vec<usize> = (0..columns)
            .map(|at| self.rows.iter().map(|row| cell(row, at).chars().count()).max().unwrap_or_default())
            .collect();
        let mut out = String::new();
        for (number, row) in self.rows.iter().enumerate() {
            for (at, width) in widths.iter().enumerate() {
                let text = cell(row, at);
                out += &if at == 0 { format!("| {text:<width$} ") } else { format!("| {text:>width$} ") };
            }
            out += "|\n";
            if number == 0 {
                for (at, width) in widths.iter().enumerate() {
                    let line = "-".repeat(width + 1);
                    out += &if at == 0 { format!("|{line}-") } else { format!("|{line}:") };
                }
                out += "|\n";
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let mut values: Vec<Duration> = (1..=100).rev().map(Duration::from_millis).collect();
        assert_eq!(percentile(&mut values, 0.5), Duration::from_millis(50));
        assert_eq!(percentile(&mut values, 0.99), Duration::from_millis(99));
        assert_eq!(percentile(&mut values, 1.0), Duration::from_millis(100));
        assert_eq!(percentile(&mut values, 0.0), Duration::from_millis(1));
        assert_eq!(percentile(&mut [Duration::from_millis(7)], 0.99), Duration::from_millis(7));
        assert_eq!(percentile(&mut [], 0.5), Duration::ZERO);
    }

    #[test]
    fn a_table_is_aligned() {
        let mut table = Table::new(&["what", "ms"]);
        table.push(vec!["floor".into(), "1.25".into()]);
        table.push(vec!["weir, µs".into()]);
        let expected = "| what     |   ms |\n|----------|-----:|\n| floor    | 1.25 |\n| weir, µs |      |\n";
        assert_eq!(table.render(), expected);
    }
}
