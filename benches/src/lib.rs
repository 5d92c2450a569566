//! Load generators and measurements shared by the benches.
