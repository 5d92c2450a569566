//! A process that plays a role of the crowd, as the show gives it orders.

use std::process::Stdio;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::fault::Fault;
use super::role::Order;

/// Longer than every deadline that an order may carry.
const DEADLINE: Duration = Duration::from_secs(90);

/// A running role; it ends when it is dropped.
#[derive(Debug)]
pub struct Actor {
    orders: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    _child: Child,
}

impl Actor {
    /// Starts `command`, which must be this program in its role.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(mut command: Command) -> Result<Self, Fault> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().map_err(|error| Fault::new("starting a role", error))?;
        let (Some(orders), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Fault("a role without pipes".to_owned()));
        };
        Ok(Self {
            orders,
            answers: BufReader::new(answers).lines(),
            _child: child,
        })
    }

    /// Gives an order and waits for its answer.
    ///
    /// # Errors
    /// What the role says is wrong, or that it is gone.
    pub async fn ask<T: DeserializeOwned>(&mut self, order: Order) -> Result<T, Fault> {
        let talk = async {
            let line = serde_json::to_string(&order).map_err(|error| error.to_string())?;
            let written = self.orders.write_all(format!("{line}\n").as_bytes()).await;
            written.map_err(|error| error.to_string())?;
            let answer = self.answers.next_line().await.map_err(|error| error.to_string())?;
            let answer = answer.ok_or("it is gone")?;
            let mut answer: Value = serde_json::from_str(&answer).map_err(|error| error.to_string())?;
            match answer.get("error") {
                Some(text) => Err(text.to_string()),
                None => serde_json::from_value(answer["ok"].take()).map_err(|error| error.to_string()),
            }
        };
        match tokio::time::timeout(DEADLINE, talk).await {
            Ok(answer) => answer.map_err(|why: String| Fault::new(format!("{order:?}"), why)),
            Err(_) => Err(Fault::new(format!("{order:?}"), "no answer")),
        }
    }
}
