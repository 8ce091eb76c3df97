//! Files: taken in, shrunk, described.

use std::io::Cursor;

use ganger::worker::processors::{DEMO_IMAGE, FILE_BYTES_MAX};
use ganger::worker::{ContentHash, OutboundAllow};
use image::{GenericImageView, ImageEncoder, ImageFormat, Rgb, RgbImage};
use serde_json::{Value, json};

use super::support::{Bench, HttpServer, assignment, depends_on, reply};

async fn ingest_demo(bench: &Bench) -> Value {
    std::fs::write(bench.dir.path().join("inbox/demo.jpg"), DEMO_IMAGE).unwrap();
    bench.result("file.ingest", json!({"fileId": "photo", "source": "file:///demo.jpg"})).await
}

#[tokio::test]
async fn a_picture_goes_through_the_whole_pipeline() {
    let bench = Bench::new().await;
    let ingested = ingest_demo(&bench).await;
    assert_eq!(ingested["sha256"], ContentHash::of(DEMO_IMAGE).as_str());
    assert_eq!(ingested["contentType"], "image/jpeg");
    assert_eq!(ingested["bytes"], DEMO_IMAGE.len());

    let mut results = vec![ingested.clone()];
    for (size, width, height) in [("lg", 1024, 683), ("sm", 160, 107), ("md", 480, 320)] {
        let made = bench.result("image.thumbnail", json!({"fileId": "photo", "size": size})).await;
        assert_eq!((&made["width"], &made["height"]), (&json!(width), &json!(height)), "{size}");
        let file = bench.file(&made["path"]);
        assert_eq!(made["path"], format!("thumbnails/default/photo/{size}.jpg"));
        assert_eq!(made["sha256"], ContentHash::of(&file).as_str());
        assert_eq!(image::load_from_memory(&file).unwrap().dimensions(), (width, height));
        results.push(made);
    }

    let job = depends_on(assignment("metadata.aggregate", &json!({"fileId": "photo"})), &results);
    let metadata = bench.result_of(job).await;
    assert_eq!(metadata["original"]["width"], 1600);
    assert_eq!(metadata["original"]["sha256"], ingested["sha256"]);
    assert_eq!(metadata["exif"]["model"], "Ganger Procedural 1");
    assert_eq!(metadata["exif"]["takenAt"], "2026-05-01T06:12:44+02:00");
    assert_eq!(metadata["exif"]["gps"]["latitude"], 46.558333);
    let sizes: Vec<&Value> =
        metadata["thumbnails"].as_array().unwrap().iter().map(|made| &made["size"]).collect();
    assert_eq!(sizes, ["sm", "md", "lg"]);

    let job = assignment("user.notify", &json!({"userId": 7, "channel": "email", "message": "done"}));
    let notified = bench.result_of(depends_on(job, &[metadata])).await;
    let told: Value = serde_json::from_slice(&bench.file(&notified["path"])).unwrap();
    assert_eq!((&told["userId"], &told["message"]), (&json!("7"), &json!("done")));
    assert_eq!(told["dependencies"][0]["result"]["original"]["width"], 1600);
}

#[tokio::test]
async fn a_parents_file_is_found_by_its_hash() {
    let bench = Bench::new().await;
    let ingested = ingest_demo(&bench).await;
    // Another tenant has no link to the file, only the parent's word.
    let mut job = assignment("image.thumbnail", &json!({"fileId": "photo", "size": "sm"}));
    job.tenant = "acme".to_owned();
    let made = bench.result_of(depends_on(job, &[json!(null), ingested])).await;
    assert_eq!(made["path"], "thumbnails/acme/photo/sm.jpg");

    let mut alone = assignment("image.thumbnail", &json!({"fileId": "photo", "size": "sm"}));
    alone.tenant = "acme".to_owned();
    assert!(format!("{:?}", bench.outcome(alone).await).contains("file_not_found"));
}

#[tokio::test]
async fn a_picture_is_turned_as_its_camera_says() {
    let bench = Bench::new().await;
    let mut exif = b"MM\0*\0\0\0\x08\0\x01".to_vec();
    // One entry: orientation, a short, once: 6, a quarter turn clockwise.
    exif.extend([0x01, 0x12, 0, 3, 0, 0, 0, 1, 0, 6, 0, 0, 0, 0, 0, 0]);
    let picture = RgbImage::from_fn(80, 40, |x, _| if x < 40 { Rgb([255, 0, 0]) } else { Rgb([0, 0, 255]) });
    let mut file = Vec::new();
    let mut encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut file, 95);
    encoder.set_exif_metadata(exif).unwrap();
    encoder.encode_image(&picture).unwrap();
    std::fs::write(bench.dir.path().join("inbox/turned.jpg"), file).unwrap();

    bench.result("file.ingest", json!({"fileId": "t", "source": "file:///turned.jpg"})).await;
    let made = bench.result("image.thumbnail", json!({"fileId": "t", "size": "sm"})).await;
    assert_eq!((&made["width"], &made["height"]), (&json!(40), &json!(80)));
    let shown = image::load_from_memory(&bench.file(&made["path"])).unwrap();
    let top = shown.get_pixel(20, 5);
    assert!(top[0] > 200 && top[2] < 60, "the left half is on top after the turn: {top:?}");
}

#[tokio::test]
async fn sources_come_as_data_urls_and_over_http() {
    let mut png = Vec::new();
    RgbImage::new(3, 2).write_to(&mut Cursor::new(&mut png), ImageFormat::Png).unwrap();
    let server = HttpServer::answering(
        "127.0.0.1",
        vec![reply("200 OK", png.clone()), reply("404 Not Found", ""), reply("503 Busy", "")],
    )
    .await;
    let bench = Bench::with(server.allowed(), |_| ()).await;

    let taken = bench.result("file.ingest", json!({"fileId": "a", "source": server.url("/a.png")})).await;
    assert_eq!((&taken["contentType"], &taken["bytes"]), (&json!("image/png"), &json!(png.len())));
    assert_eq!(taken["source"], server.url("/a.png"));
    let gone = bench.error("file.ingest", json!({"fileId": "a", "source": server.url("/a.png")})).await;
    assert_eq!((gone.error_type.as_str(), gone.retryable), ("http_404", false));
    let busy = bench.error("file.ingest", json!({"fileId": "a", "source": server.url("/a.png")})).await;
    assert_eq!((busy.error_type.as_str(), busy.retryable), ("http_503", true));

    for (source, hash, kind) in [
        ("data:,hello%20you", &b"hello you"[..], "text/plain"),
        ("data:text/csv;charset=utf-8;base64,aGVsbG8=", b"hello", "text/csv"),
        ("data:;base64,aGVsbG8", b"hello", "text/plain"),
    ] {
        let taken = bench.result("file.ingest", json!({"fileId": "d", "source": source})).await;
        assert_eq!(taken["sha256"], ContentHash::of(hash).as_str(), "{source}");
        assert_eq!(taken["contentType"], kind, "{source}");
    }
    let broken = bench.error("file.ingest", json!({"fileId": "d", "source": "data:;base64,%%%"})).await;
    assert_eq!((broken.error_type.as_str(), broken.retryable), ("invalid_payload", false));
}

#[tokio::test]
async fn nothing_outside_the_ingest_root_can_be_taken_in() {
    let bench = Bench::new().await;
    let root = bench.dir.path().join("inbox");
    let secret = bench.dir.path().join("secret.txt");
    std::fs::write(&secret, "secret").unwrap();
    std::fs::create_dir(root.join("sub")).unwrap();
    std::fs::write(root.join("sub/ok.txt"), "fine").unwrap();
    std::os::unix::fs::symlink(&secret, root.join("link.txt")).unwrap();
    std::os::unix::fs::symlink(bench.dir.path(), root.join("up")).unwrap();

    let absolute = format!("file://{}", secret.display());
    for source in [
        absolute.as_str(),
        "file:///../secret.txt",
        "file:///%2e%2e/secret.txt",
        "file:///..%2fsecret.txt",
        "file:///sub/..%2f..%2fsecret.txt",
        "file:///link.txt",
        "file:///up/secret.txt",
        "file:///etc/passwd",
        "file:///sub",
        "file:///",
        "file:///missing.txt",
        "file:///dev/zero",
    ] {
        let error = bench.error("file.ingest", json!({"fileId": "f", "source": source})).await;
        // One answer for all: what exists elsewhere is not told.
        assert_eq!(error.error_type, "source_not_found", "{source}");
        assert_eq!(error.message, "source: no such file under the ingest root");
    }
    let inside = format!("file://{}", root.join("sub/ok.txt").display());
    for source in [inside.as_str(), "file:///sub/ok.txt", "file://localhost/sub/ok.txt"] {
        let taken = bench.result("file.ingest", json!({"fileId": "f", "source": source})).await;
        assert_eq!(taken["bytes"], 4, "{source}");
    }
}

#[tokio::test]
async fn a_file_over_the_limit_and_a_refused_address_are_given_up() {
    let bench = Bench::with(OutboundAllow::none(), |_| ()).await;
    let large = std::fs::File::create(bench.dir.path().join("inbox/large")).unwrap();
    large.set_len(FILE_BYTES_MAX + 1).unwrap();
    let error = bench.error("file.ingest", json!({"fileId": "l", "source": "file:///large"})).await;
    assert_eq!((error.error_type.as_str(), error.retryable), ("content_too_large", false));
    let error = bench.error("file.ingest", json!({"fileId": "l", "source": "http://127.0.0.1:1/"})).await;
    assert_eq!((error.error_type.as_str(), error.retryable), ("outbound_refused", false));
}

#[tokio::test]
async fn what_is_no_picture_is_given_up() {
    let bench = Bench::new().await;
    bench.result("file.ingest", json!({"fileId": "t", "source": "data:,text"})).await;
    let error = bench.error("image.thumbnail", json!({"fileId": "t", "size": "sm"})).await;
    assert!(!error.retryable, "{error}");
    let metadata = bench.result("metadata.aggregate", json!({"fileId": "t"})).await;
    assert_eq!(metadata["original"]["contentType"], "text/plain");
    assert!(metadata.get("exif").is_none());
}
