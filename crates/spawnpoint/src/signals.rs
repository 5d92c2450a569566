//! Requests from outside the process: stop, and read the configuration again.

use std::io;

/// Requests to stop: Ctrl-C anywhere, SIGTERM too on Unix.
pub struct Stop {
    #[cfg(unix)]
    signals: [tokio::signal::unix::Signal; 2],
    #[cfg(windows)]
    signals: (tokio::signal::windows::CtrlC, tokio::signal::windows::CtrlClose),
}

impl Stop {
    /// Takes the signals over; before this they end the process the hard way.
    pub fn install() -> io::Result<Self> {
        #[cfg(unix)]
        {
            use tokio::signal::unix::{SignalKind, signal};
            Ok(Self {
                signals: [signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?],
            })
        }
        #[cfg(windows)]
        {
            use tokio::signal::windows::{ctrl_c, ctrl_close};
            Ok(Self {
                signals: (ctrl_c()?, ctrl_close()?),
            })
        }
    }

    /// Waits for the next request.
    pub async fn requested(&mut self) {
        #[cfg(unix)]
        {
            let [interrupt, terminate] = &mut self.signals;
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        }
        #[cfg(windows)]
        {
            let (interrupt, close) = &mut self.signals;
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = close.recv() => {}
            }
        }
    }
}

/// Calls `reload` at each SIGHUP, as long as it is polled. Windows has no such signal; there the file is followed all the same.
pub fn on_reload(reload: impl Fn() + Send) -> io::Result<impl Future<Output = ()> + Send> {
    #[cfg(unix)]
    let mut signal = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup())?;
    Ok(async move {
        #[cfg(unix)]
        while signal.recv().await.is_some() {
            reload();
        }
        #[cfg(windows)]
        {
            let _ = reload;
            std::future::pending::<()>().await;
        }
    })
}
