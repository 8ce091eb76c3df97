//! What a camera wrote into a picture.

use std::io::Cursor;

use exif::{Exif, In, Reader, Tag, Value};
use serde::Serialize;

/// Longest text taken from a file's EXIF data; the fields say what a camera is called, not more.
const TEXT_BYTES_MAX: usize = 256;

/// The part of EXIF that people look for.
#[derive(Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct CameraData {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) make: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) model: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) lens: Option<String>,
    /// As the camera's clock had it, with an offset if the camera knew one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) taken_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) orientation: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) gps: Option<Position>,
}

/// Where the picture was taken, in degrees and metres.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Position {
    pub(super) latitude: f64,
    pub(super) longitude: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) altitude: Option<f64>,
}

/// Reads the EXIF data of the picture in `file`, if it has any that can be read.
pub(super) fn camera_data(file: &[u8]) -> Option<CameraData> {
    let exif = Reader::new().read_from_container(&mut Cursor::new(file)).ok()?;
    Some(CameraData {
        make: text(&exif, Tag::Make),
        model: text(&exif, Tag::Model),
        lens: text(&exif, Tag::LensModel),
        taken_at: taken_at(&exif),
        orientation: exif.get_field(Tag::Orientation, In::PRIMARY).and_then(|field| field.value.get_uint(0)),
        gps: position(&exif),
    })
}

fn text(exif: &Exif, tag: Tag) -> Option<String> {
    let Value::Ascii(parts) = &exif.get_field(tag, In::PRIMARY)?.value else { return None };
    let mut text = String::from_utf8_lossy(parts.first()?).into_owned();
    text.retain(|letter| !letter.is_control());
    text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

fn taken_at(exif: &Exif) -> Option<String> {
    let (written, offset) = match text(exif, Tag::DateTimeOriginal) {
        Some(written) => (written, text(exif, Tag::OffsetTimeOriginal)),
        None => (text(exif, Tag::DateTime)?, text(exif, Tag::OffsetTime)),
    };
    let time = chrono::NaiveDateTime::parse_from_str(&written, "%Y:%m:%d %H:%M:%S").ok()?;
    Some(format!("{}{}", time.format("%Y-%m-%dT%H:%M:%S"), offset.unwrap_or_default()))
}

fn position(exif: &Exif) -> Option<Position> {
    let rationals = |tag| match &exif.get_field(tag, In::PRIMARY)?.value {
        Value::Rational(values) => Some(values.iter().map(exif::Rational::to_f64).collect::<Vec<_>>()),
        _ => None,
    };
    let degrees = |tag, reference, negative| {
        let parts: Vec<f64> = rationals(tag)?;
        let [degrees, minutes, seconds] = parts.as_slice() else { return None };
        let angle = degrees + minutes / 60.0 + seconds / 3600.0;
        let sign = if text(exif, reference).is_some_and(|side| side == negative) { -1.0 } else { 1.0 };
        // A camera without a fix writes 0/0.
        angle.is_finite().then_some(sign * (angle * 1e6).round() / 1e6)
    };
    let below_sea = exif
        .get_field(Tag::GPSAltitudeRef, In::PRIMARY)
        .is_some_and(|field| matches!(&field.value, Value::Byte(bytes) if bytes.first() == Some(&1)));
    let altitude = rationals(Tag::GPSAltitude)
        .and_then(|parts| parts.first().copied())
        .filter(|metres| metres.is_finite())
        .map(|metres| if below_sea { -metres } else { metres });
    Some(Position {
        latitude: degrees(Tag::GPSLatitude, Tag::GPSLatitudeRef, "S")?,
        longitude: degrees(Tag::GPSLongitude, Tag::GPSLongitudeRef, "W")?,
        altitude,
    })
}
