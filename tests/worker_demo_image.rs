//! The demo picture: how it was made, and that what is committed still serves its purpose.
//!
//! Rendered from noise and gradients by the test below when it is asked to, so it belongs to this project and its
//! licence: `GANGER_RENDER_DEMO=1 cargo test --test worker_demo_image`.

#![expect(clippy::unwrap_used, reason = "a test panics where it fails")]

use std::io::Cursor;

use exif::experimental::Writer;
use exif::{Field, In, Rational, Tag, Value};
use ganger::worker::processors::DEMO_IMAGE;
use image::codecs::jpeg::JpegEncoder;
use image::{ImageEncoder, ImageReader, Rgb, RgbImage};

const WIDTH: u32 = 1600;
const HEIGHT: u32 = 1067;
const HORIZON: f64 = 0.62;

#[test]
fn the_demo_picture_is_a_picture_with_camera_data() {
    assert!(DEMO_IMAGE.len() < 400_000, "{} bytes", DEMO_IMAGE.len());
    let reader = ImageReader::new(Cursor::new(DEMO_IMAGE)).with_guessed_format().unwrap();
    assert_eq!(reader.into_dimensions().unwrap(), (WIDTH, HEIGHT));
    let exif = exif::Reader::new().read_from_container(&mut Cursor::new(DEMO_IMAGE)).unwrap();
    assert!(exif.get_field(Tag::Model, In::PRIMARY).is_some());
}

#[test]
fn render_the_demo_picture() {
    if std::env::var_os("GANGER_RENDER_DEMO").is_none() {
        return;
    }
    let picture = RgbImage::from_fn(WIDTH, HEIGHT, |x, y| {
        let (u, v) = (f64::from(x) / f64::from(HEIGHT), f64::from(y) / f64::from(HEIGHT));
        let colour = if v < HORIZON { land(u, v) } else { water(u, v) };
        let grain = (hash(i64::from(x), i64::from(y), 99) - 0.5) * 0.018;
        Rgb(colour.map(|part| ((part + grain).clamp(0.0, 1.0) * 255.0).round() as u8))
    });
    let mut file = Vec::new();
    let mut encoder = JpegEncoder::new_with_quality(&mut file, 80);
    encoder.set_exif_metadata(camera_data()).unwrap();
    encoder.encode_image(&picture).unwrap();
    std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/assets/demo.jpg"), file).unwrap();
}

type Colour = [f64; 3];

/// Sky with a low sun and clouds, and five ridges in front of it, each darker and nearer.
fn land(u: f64, v: f64) -> Colour {
    for ridge in (0..5).rev() {
        let near = f64::from(ridge) / 4.0;
        let base = 0.40 + 0.045 * f64::from(ridge);
        let rough = 0.17 - 0.105 * near;
        let line =
            base - rough * (fbm(u * (1.6 + near * 2.2) + 7.3 * f64::from(ridge), 0.5, 7, ridge) - 0.18);
        if v > line {
            let haze = mix([0.86, 0.66, 0.55], [0.10, 0.15, 0.17], 0.25 + 0.75 * near);
            let rock = fbm(u * 22.0, v * 30.0, 5, 40 + ridge) - 0.5;
            let snow = smooth(0.05, 0.0, v - line) * (1.0 - near).powi(2);
            let mist = smooth(0.10, 0.0, HORIZON - v) * (1.0 - near) * 0.5;
            let lit = mix(haze, [0.97, 0.86, 0.80], snow * (0.55 + rock * 0.9).clamp(0.0, 1.0));
            return mix(lit.map(|part| part + rock * 0.16 * (0.3 + near)), [0.88, 0.74, 0.66], mist);
        }
    }
    sky(u, v)
}

fn sky(u: f64, v: f64) -> Colour {
    let height = (v / 0.5).clamp(0.0, 1.0);
    let base = mix([0.21, 0.36, 0.60], [0.97, 0.74, 0.53], height.powf(1.5));
    let distance = ((u - 1.02).powi(2) + (v - 0.33).powi(2)).sqrt();
    let glow = (-distance * 5.0).exp() * 0.75 + smooth(0.036, 0.028, distance);
    let drift = fbm(u * 2.2 + v * 0.8, v * 9.0, 6, 60);
    let cloud = smooth(0.52, 0.74, drift) * smooth(0.5, 0.2, v) * 0.85;
    let clouded = mix(base, mix([0.99, 0.88, 0.80], [0.72, 0.55, 0.58], smooth(0.5, 0.85, drift)), cloud);
    [clouded[0] + glow, clouded[1] + glow * 0.82, clouded[2] + glow * 0.55].map(|part| part.min(1.0))
}

/// The land upside down, broken by waves that grow towards the shore at our feet.
fn water(u: f64, v: f64) -> Colour {
    let depth = (v - HORIZON) / (1.0 - HORIZON);
    let wave = fbm(u * 9.0 / (0.25 + depth), v * 95.0 / (0.35 + depth), 5, 80) - 0.5;
    let mirrored =
        (HORIZON - (v - HORIZON) * 0.95 + wave * 0.09 * (0.15 + depth)).clamp(0.0, HORIZON - 0.001);
    let seen = land(u + wave * 0.035 * depth, mirrored);
    let deep = mix(seen, [0.07, 0.15, 0.21], 0.22 + 0.45 * depth);
    deep.map(|part| part + wave * 0.10 * (1.0 - depth))
}

fn mix(from: Colour, to: Colour, amount: f64) -> Colour {
    std::array::from_fn(|part| from[part] + (to[part] - from[part]) * amount.clamp(0.0, 1.0))
}

fn smooth(from: f64, to: f64, value: f64) -> f64 {
    let t = ((value - from) / (to - from)).clamp(0.0, 1.0);
    t * t * (3.0 - 2.0 * t)
}

fn fbm(x: f64, y: f64, octaves: i32, seed: i32) -> f64 {
    let (mut sum, mut weight, mut total) = (0.0, 0.5, 0.0);
    for octave in 0..octaves {
        let scale = f64::from(1 << octave);
        sum += weight * noise(x * scale, y * scale, i64::from(seed * 31 + octave));
        total += weight;
        weight *= 0.5;
    }
    sum / total
}

fn noise(x: f64, y: f64, seed: i64) -> f64 {
    let (left, top) = (x.floor(), y.floor());
    let (i, j) = (left as i64, top as i64);
    let (fx, fy) = (smooth(0.0, 1.0, x - left), smooth(0.0, 1.0, y - top));
    let across = |row: i64| hash(i, row, seed) * (1.0 - fx) + hash(i + 1, row, seed) * fx;
    across(j) * (1.0 - fy) + across(j + 1) * fy
}

fn hash(x: i64, y: i64, seed: i64) -> f64 {
    let mut bits = (x as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
        ^ (y as u64).wrapping_mul(0xc2b2_ae3d_27d4_eb4f)
        ^ (seed as u64).wrapping_mul(0x1656_67b1_9e37_79f9);
    bits = (bits ^ (bits >> 31)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    bits = (bits ^ (bits >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    ((bits ^ (bits >> 32)) >> 11) as f64 / (1u64 << 53) as f64
}

fn camera_data() -> Vec<u8> {
    let text = |tag, text: &str| (tag, Value::Ascii(vec![text.as_bytes().to_vec()]));
    let angle = |tag, parts: [(u32, u32); 3]| {
        (tag, Value::Rational(parts.map(|(num, denom)| Rational { num, denom }).to_vec()))
    };
    let fields = [
        text(Tag::Make, "Ganger"),
        text(Tag::Model, "Ganger Procedural 1"),
        (Tag::Orientation, Value::Short(vec![1])),
        text(Tag::Software, "tests/worker_demo_image.rs"),
        text(Tag::DateTime, "2026:05:01 06:12:44"),
        text(Tag::DateTimeOriginal, "2026:05:01 06:12:44"),
        text(Tag::OffsetTimeOriginal, "+02:00"),
        text(Tag::LensModel, "Noise 35mm F2"),
        text(Tag::GPSLatitudeRef, "N"),
        angle(Tag::GPSLatitude, [(46, 1), (33, 1), (30, 1)]),
        text(Tag::GPSLongitudeRef, "E"),
        angle(Tag::GPSLongitude, [(8, 1), (0, 1), (18, 1)]),
        (Tag::GPSAltitudeRef, Value::Byte(vec![0])),
        (Tag::GPSAltitude, Value::Rational(vec![Rational { num: 1640, denom: 1 }])),
    ]
    .map(|(tag, value)| Field { tag, ifd_num: In::PRIMARY, value });
    let mut writer = Writer::new();
    fields.iter().for_each(|field| writer.push_field(field));
    let mut exif = Cursor::new(Vec::new());
    writer.write(&mut exif, false).unwrap();
    exif.into_inner()
}
