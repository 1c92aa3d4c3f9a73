//! What the control plane counts, as `weir_control_*`.

use prometheus::{IntCounterVec, Opts, Registry};

/// What the control plane counts. Clones count together.
#[derive(Debug, Clone)]
pub struct Metrics {
    requests: IntCounterVec,
}

impl Metrics {
    /// Registers the metrics.
    ///
    /// # Errors
    ///
    /// When `registry` has metrics of these names already.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let requests = IntCounterVec::new(
            Opts::new("weir_control_requests_total", "Requests to the API and the pages, answered."),
            &["route", "status"],
        )?;
        registry.register(Box::new(requests.clone()))?;
        Ok(Self { requests })
    }

    /// Counts a request by the template of its route and its status class, both from small fixed sets.
    pub(crate) fn answered(&self, route: &str, status: http::StatusCode) {
        let class = match status.as_u16() {
            100..200 => "1xx",
            200..300 => "2xx",
            300..400 => "3xx",
            400..500 => "4xx",
            _ => "5xx",
        };
        self.requests.with_label_values(&[route, class]).inc();
    }
}
