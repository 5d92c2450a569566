use std::future::Future;

use super::*;

const SOON: Duration = Duration::from_secs(5);

#[tokio::test]
async fn an_asker_hears_of_progress_and_then_the_answer() {
    let place = Place::new();
    let mut server = LocalServer::bind(&place.path).unwrap();
    let serve = async {
        let mut request = server.accept().await;
        assert_eq!(request.line, "upgrade \\now\nplease");
        request.reply.say("one\nof two").await;
        request.reply.say("").await;
        request.reply.finish(Ok("done \\n".to_owned())).await;
    };
    let mut heard = Vec::new();
    let asking = ask(&place.path, "upgrade \\now\nplease", SOON, |text| {
        heard.push(text.to_owned());
    });
    let (answer, ()) = tokio::join!(asking, serve);
    assert_eq!(answer.unwrap(), "done \\n");
    assert_eq!(heard, ["one\nof two", ""]);
}

#[tokio::test]
async fn a_refusal_is_told_in_its_own_words() {
    let place = Place::new();
    let answer = place
        .ask_and(|request| request.reply.finish(Err("not while draining".to_owned())))
        .await;
    assert_eq!(answer.unwrap_err().to_string(), "not while draining");
}

#[tokio::test]
async fn a_request_of_another_version_is_told_with_the_remedy() {
    let place = Place::new();
    let answer = place.ask_and(|request| request.reply.unknown()).await;
    assert_eq!(
        answer.unwrap_err().to_string(),
        "the running process does not know `status`: it is of another version, so restart it"
    );
}

#[tokio::test]
async fn a_process_that_ends_before_its_answer_is_told() {
    let place = Place::new();
    let answer = place.ask_and(async |request| drop(request)).await;
    assert!(matches!(answer, Err(LocalError::Cut)), "{answer:?}");
}

#[tokio::test]
async fn no_answer_in_time_is_told() {
    let place = Place::new();
    let _server = LocalServer::bind(&place.path).unwrap();
    let answer = ask(&place.path, "status", Duration::from_millis(20), |_| {}).await;
    assert!(matches!(answer, Err(LocalError::Silent { .. })), "{answer:?}");
}

#[tokio::test]
async fn nobody_there_is_told_with_and_without_a_file() {
    let place = Place::new();
    let answer = ask(&place.path, "status", SOON, |_| {}).await;
    assert!(matches!(answer, Err(LocalError::Nobody { .. })), "{answer:?}");
    place.leave_a_stale_socket();
    let answer = ask(&place.path, "status", SOON, |_| {}).await;
    assert!(matches!(answer, Err(LocalError::Nobody { .. })), "{answer:?}");
}

#[tokio::test]
async fn the_socket_is_its_owners_alone_and_goes_with_the_server() {
    let place = Place::new();
    place.leave_a_stale_socket();
    let server = LocalServer::bind(&place.path).unwrap();
    assert_eq!(fs::metadata(&place.path).unwrap().permissions().mode() & 0o777, 0o600);
    drop(server);
    assert_eq!(fs::read_dir(place.directory.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_live_server_is_not_pushed_aside() {
    let place = Place::new();
    let mut first = LocalServer::bind(&place.path).unwrap();
    let second = LocalServer::bind(&place.path);
    assert!(matches!(second, Err(LocalError::InUse { .. })), "{second:?}");
    let answer = place.answered_by(&mut first, "first").await;
    assert_eq!(answer.unwrap(), "first");
}

#[tokio::test]
async fn a_file_that_is_no_socket_stays() {
    let place = Place::new();
    fs::write(&place.path, "a diary").unwrap();
    for server in [LocalServer::bind(&place.path), LocalServer::take_over(&place.path)] {
        assert!(matches!(server, Err(LocalError::Obstructed { .. })), "{server:?}");
    }
    assert_eq!(fs::read_to_string(&place.path).unwrap(), "a diary");
}

#[tokio::test]
async fn a_successor_takes_over_and_its_predecessor_leaves_it_alone() {
    let place = Place::new();
    let mut old = LocalServer::bind(&place.path).unwrap();
    let mut early = UnixStream::connect(&place.path).await.unwrap();
    let mut new = LocalServer::take_over(&place.path).unwrap();

    early.write_all(b"early\n").await.unwrap();
    assert_eq!(old.accept().await.line, "early");
    assert_eq!(place.answered_by(&mut new, "new").await.unwrap(), "new");
    drop(old);
    assert_eq!(place.answered_by(&mut new, "new").await.unwrap(), "new");
}

#[tokio::test]
async fn a_path_that_no_socket_can_have_is_told_with_the_remedy() {
    let path = Path::new("/tmp").join("x".repeat(MAX_PATH));
    let server = LocalServer::bind(&path).unwrap_err().to_string();
    let asker = ask(&path, "status", SOON, |_| {}).await.unwrap_err().to_string();
    for error in [server, asker] {
        assert!(error.contains("choose a data directory with a shorter path"), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_asker_keeps_nobody_waiting_and_is_sent_away() {
    let place = Place::new();
    let mut server = LocalServer::bind(&place.path).unwrap();
    let mut silent = place.connect();
    let mut quick = place.connect();
    quick.write_all(b"status\n").await.unwrap();
    assert_eq!(server.accept().await.line, "status");
    assert_eq!(server.last_words(&mut silent).await, "fail no request within 5 s\n");
}

#[tokio::test]
async fn what_is_no_request_is_refused() {
    let place = Place::new();
    let mut server = LocalServer::bind(&place.path).unwrap();
    for offence in ["x".repeat(MAX_REQUEST + 1).as_bytes(), b"\xff\n"] {
        let mut asker = place.connect();
        asker.write_all(offence).await.unwrap();
        assert_eq!(
            server.last_words(&mut asker).await,
            "fail a request is a line of text of at most 1024 bytes\n"
        );
    }
    let answer = ask(&place.path, &"x".repeat(MAX_REQUEST), SOON, |_| {}).await;
    assert!(
        matches!(answer, Err(LocalError::TooLong { length: 1025 })),
        "{answer:?}"
    );
}

#[tokio::test]
async fn the_ninth_asker_is_told_to_try_again() {
    let place = Place::new();
    let mut server = LocalServer::bind(&place.path).unwrap();
    let mut requests = Vec::new();
    let mut askers = Vec::new();
    for _ in 0..PLACES {
        let mut asker = place.connect();
        asker.write_all(b"status\n").await.unwrap();
        requests.push(server.accept().await);
        askers.push(asker);
    }
    let mut ninth = place.connect();
    assert_eq!(
        server.last_words(&mut ninth).await,
        "fail too many requests at once: try again\n"
    );
    requests.pop();
    assert_eq!(place.answered_by(&mut server, "again").await.unwrap(), "again");
}

struct Place {
    directory: tempfile::TempDir,
    path: PathBuf,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("control");
        Self { directory, path }
    }

    fn leave_a_stale_socket(&self) {
        drop(std::os::unix::net::UnixListener::bind(&self.path).unwrap());
        assert!(self.path.exists());
    }

    /// Connects without a word.
    fn connect(&self) -> UnixStream {
        let stream = std::os::unix::net::UnixStream::connect(&self.path).unwrap();
        stream.set_nonblocking(true).unwrap();
        UnixStream::from_std(stream).unwrap()
    }

    /// Asks for the status of a server that does `answer`.
    async fn ask_and<F: Future<Output = ()>>(
        &self,
        answer: impl FnOnce(LocalRequest) -> F,
    ) -> Result<String, LocalError> {
        let mut server = LocalServer::bind(&self.path).unwrap();
        let serve = async { answer(server.accept().await).await };
        tokio::join!(ask(&self.path, "status", SOON, |_| {}), serve).0
    }

    async fn answered_by(&self, server: &mut LocalServer, name: &str) -> Result<String, LocalError> {
        let serve = async { server.accept().await.reply.finish(Ok(name.to_owned())).await };
        tokio::join!(ask(&self.path, "status", SOON, |_| {}), serve).0
    }
}

impl LocalServer {
    /// What the server says to an asker whose request it does not pass on.
    async fn last_words(&mut self, asker: &mut UnixStream) -> String {
        let mut words = String::new();
        tokio::select! {
            _ = self.accept() => panic!("a request was passed on"),
            read = asker.read_to_string(&mut words) => match read {
                Ok(_) => words,
                // What was not read is why.
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
                    words
                }
            },
        }
    }
}
