//! Pulls without a network.
