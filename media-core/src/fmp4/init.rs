//! The init segment: `ftyp` and `moov` with `mvex` (ISO/IEC 14496-12 §8.8.1).

use bytes::{BufMut, Bytes, BytesMut};
use mp4_atom::{
    Dinf, Dref, Encode, FourCC, Ftyp, Hdlr, Mdhd, Mvhd, Smhd, Stco, Stsc, Stsz, Stts, Tkhd, Trex, Url, Vmhd,
};

use super::entry::put_sample_entry;
use super::{Error, MediaTrack};
use crate::frame::{Codec, Kind, Params, Timescale};

/// Writes a box around what `body` writes. mp4-atom writes the leaves; the containers are written
/// here so that their children stand in the order of the specification.
pub(super) fn put_box(
    out: &mut BytesMut,
    kind: [u8; 4],
    body: impl FnOnce(&mut BytesMut) -> Result<(), Error>,
) -> Result<(), Error> {
    let start = out.len();
    out.put_u32(0);
    out.put_slice(&kind);
    body(out)?;
    let size = out.len() - start;
    let size = u32::try_from(size).map_err(|_| Error::TooLarge(size as u64))?;
    if let Some(field) = out.get_mut(start..).and_then(|written| written.first_chunk_mut()) {
        *field = size.to_be_bytes();
    }
    Ok(())
}

/// `ftyp` and `moov`: the init segment of one or more tracks.
pub fn init_segment(tracks: &[MediaTrack<'_>]) -> Result<Bytes, Error> {
    if tracks.is_empty() {
        return Err(Error::Empty);
    }
    for (index, track) in tracks.iter().enumerate() {
        if track.id == 0 || tracks.iter().take(index).any(|before| before.id == track.id) {
            return Err(Error::TrackId(track.id));
        }
    }
    let configs: usize = tracks.iter().map(|track| track.track.config.len()).sum();
    // A track's boxes without its configuration take about 450 bytes.
    let mut out = BytesMut::with_capacity(256 + 512 * tracks.len() + configs);
    file_type(tracks).encode(&mut out)?;
    put_box(&mut out, *b"moov", |out| {
        let next_track_id = tracks.iter().map(|track| track.id).max().unwrap_or_default();
        Mvhd {
            creation_time: 0,
            modification_time: 0,
            timescale: Timescale::MILLIS.get(),
            duration: 0,
            rate: 1.into(),
            volume: 1.into(),
            matrix: Default::default(),
            next_track_id: next_track_id.saturating_add(1),
        }
        .encode(out)?;
        for track in tracks {
            put_box(out, *b"trak", |out| put_track(out, track))?;
        }
        put_box(out, *b"mvex", |out| {
            for track in tracks {
                Trex { track_id: track.id, default_sample_description_index: 1, ..Trex::default() }
                    .encode(out)?;
            }
            Ok(())
        })
    })?;
    Ok(out.freeze())
}

/// CMAF is for single tracks; several in one file are plain fragmented MP4.
fn file_type(tracks: &[MediaTrack<'_>]) -> Ftyp {
    let brand = |name: &[u8; 4]| FourCC::new(name);
    let mut compatible_brands = vec![brand(b"iso6"), brand(b"mp41")];
    if tracks.len() == 1 {
        compatible_brands.extend([brand(b"cmfc"), brand(b"cmf2")]);
    }
    if tracks.iter().any(|track| track.track.codec == Codec::Av1) {
        compatible_brands.push(brand(b"av01"));
    }
    let major_brand = if tracks.len() == 1 { brand(b"cmf2") } else { brand(b"iso6") };
    Ftyp { major_brand, minor_version: 0, compatible_brands }
}

fn put_track(out: &mut BytesMut, media: &MediaTrack<'_>) -> Result<(), Error> {
    let track = media.track;
    let kind = track.id.kind;
    let side = |pixels: u32| u16::try_from(pixels).unwrap_or(u16::MAX);
    let (width, height) = match &track.params {
        Params::Video(video) => (side(video.width), side(video.height)),
        Params::Audio(_) => (0, 0),
    };
    Tkhd {
        track_id: media.id,
        enabled: true,
        in_movie: true,
        // Tracks of one kind are alternatives to each other.
        alternate_group: if kind == Kind::Audio { 1 } else { 0 },
        volume: u8::from(kind == Kind::Audio).into(),
        width: width.into(),
        height: height.into(),
        ..Tkhd::default()
    }
    .encode(out)?;
    put_box(out, *b"mdia", |out| {
        Mdhd { timescale: media.timescale.get(), language: "und".to_owned(), ..Mdhd::default() }
            .encode(out)?;
        let (handler, name) = match kind {
            Kind::Video => (b"vide", "Video"),
            Kind::Audio => (b"soun", "Sound"),
        };
        Hdlr { handler: FourCC::new(handler), name: name.to_owned() }.encode(out)?;
        put_box(out, *b"minf", |out| {
            match kind {
                Kind::Video => Vmhd::default().encode(out)?,
                Kind::Audio => Smhd::default().encode(out)?,
            }
            let same_file = Url { location: String::new() };
            Dinf { dref: Dref { entries: vec![same_file.into()] } }.encode(out)?;
            put_box(out, *b"stbl", |out| {
                put_box(out, *b"stsd", |out| {
                    out.put_u32(0); // version and flags
                    out.put_u32(1); // entries
                    put_sample_entry(out, track)
                })?;
                // The samples are all in fragments.
                Stts::default().encode(out)?;
                Stsc::default().encode(out)?;
                Stsz::default().encode(out)?;
                Stco::default().encode(out)?;
                Ok(())
            })
        })
    })
}
