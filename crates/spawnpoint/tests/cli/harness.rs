//! Running the binary and listening to it.

use std::io::{BufRead, BufReader, PipeReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Nothing that works takes this long, even on a busy machine.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// The binary with `arguments`; its home is `home`, so that no test meets another's files.
pub fn command(home: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_spawnpoint"));
    command
        .args(arguments)
        .env_clear()
        .env("HOME", home)
        .stdin(Stdio::null());
    command
}

/// Runs the binary to its end.
pub fn run(home: &Path, arguments: &[&str]) -> Output {
    finish(
        command(home, arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap(),
    )
}

/// Runs the binary to its end with `input` on its standard input.
pub fn run_with_input(home: &Path, arguments: &[&str], input: &str) -> Output {
    let mut command = command(home, arguments);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    finish(child)
}

fn finish(mut child: Child) -> Output {
    let deadline = Instant::now() + DEADLINE;
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!("the command did not end: {:?}", child.wait_with_output());
        }
        std::thread::yield_now();
    }
    child.wait_with_output().unwrap()
}

/// Asserts that a command failed with `code` and one message that holds all of `words`.
pub fn assert_fails(output: &Output, code: i32, words: &[&str]) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{text}");
    for word in words {
        assert!(text.contains(word), "no `{word}` in: {text}");
    }
    assert_eq!(text.matches("spawnpoint: ").count(), 1, "not one message: {text}");
    assert!(output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stdout));
}

/// Standard output of a command that succeeded.
pub fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// A running relay or agent with `--json`; it is killed when it is dropped.
pub struct Running {
    child: Child,
    lines: Receiver<Value>,
    errors: Receiver<String>,
    /// The process that has followed it last, which is not our child.
    successor: Option<u64>,
}

impl Running {
    /// Starts the binary.
    pub fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stderr = child.stderr.take().unwrap();
        let (sender, errors) = sync_channel(1);
        std::thread::spawn(move || {
            let mut text = String::new();
            let _ = stderr.read_to_string(&mut text);
            let _ = sender.send(text);
        });
        Self::of(child, errors)
    }

    /// Starts the binary with somebody at its standard error who does not read.
    pub fn start_unread(command: &mut Command) -> (Self, PipeReader) {
        let (reader, writer) = std::io::pipe().unwrap();
        let child = command.stdout(Stdio::piped()).stderr(writer).spawn().unwrap();
        // The command would keep the other end open.
        command.stderr(Stdio::null());
        (Self::of(child, sync_channel(1).1), reader)
    }

    fn of(mut child: Child, errors: Receiver<String>) -> Self {
        let (sender, lines) = sync_channel(10_000);
        let stdout = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let event = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line}: {error}"));
                if sender.send(event).is_err() {
                    return;
                }
            }
        });
        Self {
            child,
            lines,
            errors,
            successor: None,
        }
    }

    /// The next event of this name; those before it are passed over.
    pub fn event(&mut self, name: &str) -> Value {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(event) if event["event"] == name => return event,
                Ok(_) => {}
                Err(_) => {
                    let _ = self.child.kill();
                    let said = self.errors.recv_timeout(DEADLINE / 10).unwrap_or_default();
                    panic!("no event `{name}`; it said: {said}");
                }
            }
        }
    }

    /// Whether a link comes up before the process ends.
    pub fn is_linked(&mut self) -> bool {
        while let Ok(event) = self.lines.recv_timeout(DEADLINE) {
            if event["event"] == "link_up" {
                return true;
            }
        }
        false
    }

    /// Waits for the end: the exit code and what was said on standard error.
    pub fn end(mut self) -> (Option<i32>, String) {
        let deadline = Instant::now() + DEADLINE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "the process did not end");
            std::thread::yield_now();
        };
        (status.code(), self.errors.recv().unwrap_or_default())
    }

    /// Sends a signal by its name, as `kill` does.
    #[cfg(unix)]
    pub fn signal(&self, name: &str) {
        let kill = Command::new("kill")
            .args([format!("-{name}"), self.pid().to_string()])
            .status();
        assert!(kill.unwrap().success());
    }

    /// The process that runs now.
    #[cfg(unix)]
    pub fn pid(&self) -> u64 {
        self.successor.unwrap_or(self.child.id().into())
    }

    /// Waits until another process has followed this one in place, and this one has ended well.
    #[cfg(unix)]
    pub fn followed(&mut self) {
        let before = self.pid();
        let pid = loop {
            let pid = self.event("ready")["pid"].as_u64().unwrap();
            if pid != before {
                break pid;
            }
        };
        if self.successor.replace(pid).is_none() {
            assert!(self.child.wait().unwrap().success());
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(pid) = self.successor {
            let _ = Command::new("kill")
                .args(["-KILL", &pid.to_string()])
                .stderr(Stdio::null())
                .status();
        }
    }
}

/// A relay in a home of its own.
pub struct Relay {
    pub home: tempfile::TempDir,
    pub running: Running,
    pub listen: String,
    pub admin: SocketAddr,
}

/// A port that nobody has right now, below the range from which the kernel gives out its own.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = (std::process::id() % 1000) as u16 * 10;
    let candidates = std::iter::repeat_with(|| 10_000 + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % 20_000);
    let mut free = candidates.filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
    free.next().unwrap()
}

impl Relay {
    /// Starts a relay with its usual directories and a small pool of ports.
    pub fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), "127.0.0.1:0", &[])
    }

    /// Starts a relay at `listen` in `home`.
    pub fn start_in(home: tempfile::TempDir, listen: &str, more: &[&str]) -> Self {
        let ports = format!("{},{},{}", free_port(), free_port(), free_port());
        let mut arguments = vec!["relay", "--json", "--listen", listen, "--admin", "127.0.0.1:0"];
        if !more.contains(&"--ports") {
            arguments.extend(["--ports", &ports]);
        }
        arguments.extend(more);
        let running = Running::start(&mut command(home.path(), &arguments));
        Self::of(home, running)
    }

    /// Starts a relay whose log nobody reads, though there is much in it.
    pub fn start_unread() -> (Self, PipeReader) {
        let home = tempfile::tempdir().unwrap();
        let mut arguments = vec!["relay", "--json", "--log", "trace"];
        let ports = free_port().to_string();
        arguments.extend(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--ports", &ports]);
        let (running, unread) = Running::start_unread(&mut command(home.path(), &arguments));
        (Self::of(home, running), unread)
    }

    fn of(home: tempfile::TempDir, mut running: Running) -> Self {
        let ready = running.event("ready");
        let listen = ready["listen"].as_str().unwrap().to_owned();
        Self {
            home,
            running,
            listen,
            admin: ready["admin"].as_str().unwrap().parse().unwrap(),
        }
    }

    /// An invite by the command line.
    pub fn invite(&self, name: &str, more: &[&str]) -> String {
        let mut arguments = vec!["invite", name];
        arguments.extend(more);
        stdout(&run(self.home.path(), &arguments)).trim().to_owned()
    }

    /// An agent with `words`, in the home directory `home`.
    pub fn agent(&self, home: &Path, words: &[&str]) -> Running {
        let mut arguments = vec!["agent", "--json"];
        arguments.extend(words);
        Running::start(&mut command(home, &arguments))
    }

    /// The body and status line of a page of the admin listener.
    pub fn page(&self, path: &str) -> String {
        let mut socket = TcpStream::connect(self.admin).unwrap();
        write!(socket, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        socket.read_to_string(&mut text).unwrap();
        text
    }
}

/// A TCP server that says back what it hears, on a thread of its own.
pub fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for socket in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || std::io::copy(&mut socket.try_clone().unwrap(), &mut &socket));
        }
    });
    address
}

/// Plays one round with a server that says back what it hears.
pub fn play(public: &str) -> TcpStream {
    let mut player = TcpStream::connect(public).unwrap();
    player.set_read_timeout(Some(DEADLINE)).unwrap();
    say(&mut player);
    player
}

/// Plays another.
pub fn say(player: &mut TcpStream) {
    player.write_all(b"hello").unwrap();
    player.read_exact(&mut [0; 5]).unwrap();
}

/// Looks again and again until `is_so`, which is `what`, with a deadline.
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}: not within {DEADLINE:?}");
        std::thread::yield_now();
    }
}
