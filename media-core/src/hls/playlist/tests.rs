//! What playlists must say.
