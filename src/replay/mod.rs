//! replay
pub mod arrival;
pub mod filter;
pub mod plan;
pub mod quantile;
pub mod rewrite;
pub mod splice;
