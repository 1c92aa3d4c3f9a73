//! What is fetched from upstream for many at once.

pub(crate) mod coalesce;
