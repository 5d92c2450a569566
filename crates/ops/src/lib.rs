//! What people and programs see of a running process: logs, events, the audit log, metrics, health.
//!
//! Logs are for people and go to standard error. Events are for programs: one JSON object a line on standard output, whose names and fields are kept.
//! Metrics and health are served over HTTP on a loopback port. Nothing here decides anything about players.

mod admin;
mod audit;
mod event;
mod logs;
mod metrics;
mod writing;

pub use admin::{Admin, AdminError};
pub use audit::{Audit, AuditError, AuditSettings, Collector, Way};
pub use event::{Event, Events};
pub use logs::{LogFormat, Logs, describe, init_logs, lines_lost};
pub use metrics::{RelayMetrics, TunnelLabels};
pub use writing::{Page, Queue, Writing};
