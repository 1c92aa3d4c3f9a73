//! The playlists of one state of a window: each rendered once and compressed once, when first asked for.

use std::io::Write;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use media_core::hls::Window;
use media_core::hls::playlist::{self, Form};

use super::metrics::HlsMetrics;

/// A playlist of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    Multivariant,
    Media { rendition: usize, form: Form },
}

#[derive(Debug)]
struct Rendered {
    which: Which,
    plain: Bytes,
    gzip: Option<Bytes>,
}

/// What was rendered of the window as it is. There are at most two for each rendition, and the multivariant one.
#[derive(Debug, Default)]
pub(super) struct Playlists(Vec<Rendered>);

impl Playlists {
    /// The window changed.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn get(&mut self, which: Which, gzip: bool, window: &Window, metrics: &HlsMetrics) -> Bytes {
        let found = self.0.iter().position(|r| r.which == which);
        let at = found.unwrap_or_else(|| {
            metrics.playlists_rendered.inc();
            let text = match which {
                Which::Multivariant => playlist::multivariant(window),
                Which::Media { rendition, form } => playlist::media(window, rendition, form),
            };
            self.0.push(Rendered { which, plain: text.into(), gzip: None });
            self.0.len() - 1
        });
        let Some(rendered) = self.0.get_mut(at) else { return Bytes::new() };
        if !gzip {
            return rendered.plain.clone();
        }
        rendered
            .gzip
            .get_or_insert_with(|| {
                metrics.playlists_compressed.inc();
                compress(&rendered.plain)
            })
            .clone()
    }
}

fn compress(plain: &[u8]) -> Bytes {
    // A tenth of the text is what usually remains.
    let mut encoder = GzEncoder::new(Vec::with_capacity(plain.len() / 4), Compression::default());
    // Writing into a Vec can't fail.
    let _ = encoder.write_all(plain);
    encoder.finish().unwrap_or_default().into()
}
