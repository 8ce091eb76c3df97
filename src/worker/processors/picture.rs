//! Decodes, turns and shrinks pictures, within bounds that a hostile file cannot move.

use std::io::Cursor;

use image::codecs::jpeg::JpegEncoder;
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits};

use crate::worker::JobError;

/// Longest side of a picture: beyond it only made-up files go.
const SIDE_MAX: u32 = 20_000;
/// Memory for decoded pixels: 60 million of them, more than cameras take. A file of some bytes can claim any size.
const DECODED_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Good to the eye at a fraction of the size of 100.
const JPEG_QUALITY: u8 = 85;

/// A picture made smaller.
pub(super) struct Shrunk {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) bytes: Vec<u8>,
    pub(super) content_type: &'static str,
    pub(super) extension: &'static str,
}

/// What can be told of a picture without decoding its pixels.
pub(super) struct Dimensions {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) format: &'static str,
}

/// Shrinks the picture in `file` until its longest side is `longest`, never enlarging it, and turns it as its EXIF
/// data asks. Blocks for as long as the decoder takes.
pub(super) fn shrink(file: &[u8], longest: u32) -> Result<Shrunk, JobError> {
    let mut decoder = reader(file)?.into_decoder().map_err(refused)?;
    if decoder.total_bytes() > DECODED_BYTES_MAX {
        return Err(too_large());
    }
    let orientation = decoder.orientation().map_err(refused)?;
    let mut picture = DynamicImage::from_decoder(decoder).map_err(refused)?;
    if picture.width().max(picture.height()) > longest {
        // Averages boxes of pixels, then resamples: as good as a wide filter when shrinking this much, and faster.
        picture = picture.thumbnail(longest, longest);
    }
    picture.apply_orientation(orientation);
    encode(&picture)
}

/// Reads the header of the picture in `file`; `None` if it is none.
pub(super) fn dimensions(file: &[u8]) -> Option<Dimensions> {
    let reader = reader(file).ok()?;
    let format = reader.format()?.to_mime_type();
    let (width, height) = reader.into_dimensions().ok()?;
    Some(Dimensions { width, height, format })
}

fn reader(file: &[u8]) -> Result<ImageReader<Cursor<&[u8]>>, JobError> {
    let mut limits = Limits::default();
    limits.max_image_width = Some(SIDE_MAX);
    limits.max_image_height = Some(SIDE_MAX);
    limits.max_alloc = Some(DECODED_BYTES_MAX);
    let mut reader = ImageReader::new(Cursor::new(file)).with_guessed_format()?;
    reader.limits(limits);
    Ok(reader)
}

fn encode(picture: &DynamicImage) -> Result<Shrunk, JobError> {
    let (width, height) = (picture.width(), picture.height());
    let mut bytes = Vec::new();
    let see_through = picture.color().has_alpha() && picture.to_rgba8().pixels().any(|pixel| pixel[3] < 255);
    let (content_type, extension) = if see_through {
        picture.to_rgba8().write_to(&mut Cursor::new(&mut bytes), ImageFormat::Png).map_err(refused)?;
        ("image/png", "png")
    } else {
        let encoder = JpegEncoder::new_with_quality(&mut bytes, JPEG_QUALITY);
        picture.to_rgb8().write_with_encoder(encoder).map_err(refused)?;
        ("image/jpeg", "jpg")
    };
    Ok(Shrunk { width, height, bytes, content_type, extension })
}

fn too_large() -> JobError {
    JobError::fatal(
        "image_too_large",
        format!("the picture needs more than {DECODED_BYTES_MAX} bytes decoded"),
    )
}

/// No further attempt makes a broken file whole.
fn refused(error: ImageError) -> JobError {
    match error {
        ImageError::Limits(_) => too_large(),
        ImageError::Unsupported(_) => JobError::fatal("image_unsupported", error.to_string()),
        ImageError::IoError(_)
        | ImageError::Decoding(_)
        | ImageError::Encoding(_)
        | ImageError::Parameter(_) => JobError::fatal("image_invalid", error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_claims_to_be_huge_is_refused_before_it_is_decoded() {
        // A BMP header of 19,999 × 19,999 pixels, and nothing behind it.
        let mut file = b"BM".to_vec();
        file.extend([54u32, 0, 54, 40, 19_999, 19_999].map(u32::to_le_bytes).concat());
        file.extend([1u16, 24].map(u16::to_le_bytes).concat());
        file.extend([0u8; 24]);
        let error = shrink(&file, 160).err().unwrap();
        assert_eq!((error.error_type.as_str(), error.retryable), ("image_too_large", false));
    }

    #[test]
    fn a_small_picture_is_not_enlarged_and_keeps_its_transparency() {
        let mut file = Vec::new();
        let picture = image::RgbaImage::from_pixel(8, 4, image::Rgba([9, 9, 9, 100]));
        picture.write_to(&mut Cursor::new(&mut file), ImageFormat::Png).unwrap();
        let shrunk = shrink(&file, 160).unwrap();
        assert_eq!((shrunk.width, shrunk.height, shrunk.content_type), (8, 4, "image/png"));
    }

    #[test]
    fn what_is_no_picture_is_refused_for_good() {
        assert!(!shrink(b"hello", 160).err().unwrap().retryable);
        assert!(dimensions(b"hello").is_none());
    }
}
