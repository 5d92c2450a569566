//! What the machine lets this process have.

/// Raises the number of open files to what the machine allows: each player is one or two, and the usual limit of 1,024 is history's, not the machine's.
///
/// Windows has no such limit.
pub fn raise_open_files() {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        if current != maximum
            && setrlimit(
                Resource::Nofile,
                Rlimit {
                    current: maximum,
                    maximum,
                },
            )
            .is_err()
        {
            tracing::warn!(
                ?current,
                ?maximum,
                "the number of open files, and so of players, could not be raised"
            );
        }
    }
}
