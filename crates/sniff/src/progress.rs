//! How far an incremental decoder came.

/// What a decoder makes of the bytes received so far; an offence is the `Err` around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress<T> {
    /// The bytes are the beginning of something valid: call again with the same bytes and more after them.
    NeedMore,
    /// The value is whole.
    Done {
        /// What was read.
        value: T,
        /// How many bytes at the front it took; what follows belongs to the next packet.
        consumed: usize,
    },
}

impl<T> Progress<T> {
    /// Applies `f` to the value, if there is one.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Progress<U> {
        match self {
            Self::NeedMore => Progress::NeedMore,
            Self::Done { value, consumed } => Progress::Done {
                value: f(value),
                consumed,
            },
        }
    }

    /// Applies `f`, which may find an offence, to the value, if there is one.
    ///
    /// # Errors
    /// What `f` returns.
    pub fn and_then<U, E>(self, f: impl FnOnce(T) -> Result<U, E>) -> Result<Progress<U>, E> {
        Ok(match self {
            Self::NeedMore => Progress::NeedMore,
            Self::Done { value, consumed } => Progress::Done {
                value: f(value)?,
                consumed,
            },
        })
    }
}
