//! libfdk-aac's decoder: the only unsafe code of this crate.
//!
//! The safe binding (`fdk-aac`) does not offer what is set here: by itself the library holds back a frame to repair losses
//! from both sides, and 15 ms for its limiter, together 36 ms, which is much for those who talk to each other.
//!
//! What makes it sound: the handle is made in `new` and closed in `drop`, and nothing else has it; each call takes `&mut
//! self`; the library copies what it is given before it returns, never writes to it, and writes no more samples than it is
//! told there is room for.

#![allow(unsafe_code, reason = "a C library is called")]

use std::ptr::NonNull;

use fdk_aac_sys as sys;

/// The most samples that a frame may have: 2048 of each of 8 channels.
pub(crate) const MAX_SAMPLES: usize = 2048 * 8;
/// The library's own buffer. A frame has at most 768 bytes a channel (ISO/IEC 14496-3 §4.5.3).
pub(crate) const MAX_BYTES: usize = 8191;

/// Spectral muting: what is lost is faded, and nothing is held back for it.
const CONCEAL_BY_MUTING: i32 = 0;

/// No channels are mixed, doubled or left out.
const AS_CODED: i32 = 0;

/// An `AAC_DECODER_ERROR`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Code(u32);

impl std::fmt::Display for Code {
    /// As `aacdecoder_lib.h` numbers them.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            sys::AAC_DECODER_ERROR_AAC_DEC_OUT_OF_MEMORY => f.write_str("out of memory"),
            sys::AAC_DECODER_ERROR_AAC_DEC_UNSUPPORTED_AOT => {
                f.write_str("this audio object type is not supported")
            }
            sys::AAC_DECODER_ERROR_AAC_DEC_UNSUPPORTED_CHANNELCONFIG => {
                f.write_str("this channel configuration is not supported")
            }
            sys::AAC_DECODER_ERROR_AAC_DEC_UNSUPPORTED_SAMPLINGRATE => {
                f.write_str("this sampling rate is not supported")
            }
            sys::AAC_DECODER_ERROR_AAC_DEC_INVALID_SBR_CONFIG => {
                f.write_str("this SBR configuration is not supported")
            }
            code => write!(f, "error {code:#06x}"),
        }
    }
}

fn check(code: u32) -> Result<(), Code> {
    if code == sys::AAC_DECODER_ERROR_AAC_DEC_OK { Ok(()) } else { Err(Code(code)) }
}

/// What a frame was decoded to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Of each channel.
    pub(crate) samples: usize,
    pub(crate) channels: usize,
    /// In Hz, after SBR, whether the configuration told of it or not.
    pub(crate) sample_rate: u32,
}

/// A decoder of raw data blocks.
#[derive(Debug)]
pub(crate) struct Decoder(NonNull<sys::AAC_DECODER_INSTANCE>);

// SAFETY: the library keeps all state of a decoder behind its handle and none in the thread.
unsafe impl Send for Decoder {}

impl Decoder {
    /// Of an `AudioSpecificConfig`; puts out that many channels whatever is coded (1, 2 or 6), or what is coded.
    pub(crate) fn new(config: &[u8], channels: Option<u8>) -> Result<Self, Code> {
        // SAFETY: no arguments but numbers; null is looked for.
        let handle = unsafe { sys::aacDecoder_Open(sys::TRANSPORT_TYPE_TT_MP4_RAW, 1) };
        let handle = NonNull::new(handle).ok_or(Code(sys::AAC_DECODER_ERROR_AAC_DEC_OUT_OF_MEMORY))?;
        let mut decoder = Self(handle);
        let channels = channels.map_or(AS_CODED, i32::from);
        decoder.set(sys::AACDEC_PARAM_AAC_CONCEAL_METHOD, CONCEAL_BY_MUTING)?;
        decoder.set(sys::AACDEC_PARAM_AAC_PCM_LIMITER_ENABLE, 0)?;
        decoder.set(sys::AACDEC_PARAM_AAC_PCM_MAX_OUTPUT_CHANNELS, channels)?;
        decoder.set(sys::AACDEC_PARAM_AAC_PCM_MIN_OUTPUT_CHANNELS, channels)?;
        let length = u32::try_from(config.len()).unwrap_or(u32::MAX);
        let mut config = config.as_ptr().cast_mut();
        // SAFETY: one layer, so one pointer and one length, of bytes that outlive the call and are only read.
        check(unsafe { sys::aacDecoder_ConfigRaw(decoder.0.as_ptr(), &raw mut config, &raw const length) })?;
        Ok(decoder)
    }

    fn set(&mut self, parameter: u32, value: i32) -> Result<(), Code> {
        // SAFETY: the handle is open; unknown parameters and values are refused.
        check(unsafe { sys::aacDecoder_SetParam(self.0.as_ptr(), parameter, value) })
    }

    /// Decodes one frame: its samples, interleaved, are the first of `pcm`, which should have room for [`MAX_SAMPLES`].
    pub(crate) fn decode(&mut self, data: &[u8], pcm: &mut [i16]) -> Result<Shape, Code> {
        let (Ok(length), Ok(room)) = (u32::try_from(data.len()), i32::try_from(pcm.len())) else {
            return Err(Code(sys::AAC_DECODER_ERROR_AAC_DEC_OUTPUT_BUFFER_TOO_SMALL));
        };
        let mut left = length;
        let mut data = data.as_ptr().cast_mut();
        // SAFETY: one layer, so one pointer and one length, of bytes that outlive the call and are only read.
        check(unsafe {
            sys::aacDecoder_Fill(self.0.as_ptr(), &raw mut data, &raw const length, &raw mut left)
        })?;
        if left != 0 {
            return Err(Code(sys::AAC_DECODER_ERROR_AAC_DEC_TRANSPORT_ERROR));
        }
        // SAFETY: `room` samples may be written.
        check(unsafe { sys::aacDecoder_DecodeFrame(self.0.as_ptr(), pcm.as_mut_ptr(), room, 0) })?;
        // SAFETY: null, or within the decoder, which nothing changes while it is read.
        let info = unsafe { sys::aacDecoder_GetStreamInfo(self.0.as_ptr()).as_ref() };
        let unknown = Code(sys::AAC_DECODER_ERROR_AAC_DEC_UNKNOWN);
        let info = info.ok_or(unknown)?;
        let (Ok(samples), Ok(channels), Ok(sample_rate)) = (
            usize::try_from(info.frameSize),
            usize::try_from(info.numChannels),
            u32::try_from(info.sampleRate),
        ) else {
            return Err(unknown);
        };
        Ok(Shape { samples, channels, sample_rate })
    }
}

impl Drop for Decoder {
    fn drop(&mut self) {
        // SAFETY: open, and not used again.
        unsafe { sys::aacDecoder_Close(self.0.as_ptr()) };
    }
}
