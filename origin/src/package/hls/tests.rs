//! How the packager and its answers behave.
