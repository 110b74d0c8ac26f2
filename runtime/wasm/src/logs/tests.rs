//! Lines as guests write them, and what is lost of them.

use std::fs;

use expect_test::{Expect, expect};
use windlass_sdk_meta::Timestamp;

use super::*;

#[derive(Debug)]
struct Fixed;

impl Clock for Fixed {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(1_795_454_400).expect("in range")
    }
}

/// `writes` go to the log of one instance, which then ends.
async fn check(writes: &[(Stream, &str)], expected: Expect) {
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join("pod/0.log");
    let writer = LogWriter::start(Arc::new(Fixed), LogBounds::default()).expect("thread");
    let log = writer.open(path.clone());
    let instance = InstanceLog::new(log.clone());
    assert!(!path.exists());
    for (stream, text) in writes {
        instance.write(*stream, text.as_bytes());
    }
    drop(instance);
    log.flush().await;
    writer.end();
    let text = fs::read_to_string(&path).unwrap_or_default();
    let shortened = text.lines().map(|line| match line.len() {
        0..200 => format!("{line}\n"),
        length => format!("{}... {length} bytes\n", &line[..48]),
    });
    expected.assert_eq(&shortened.collect::<String>());
}

#[tokio::test]
async fn lines_are_whole_whatever_the_writes() {
    use Stream::{Stderr, Stdout};
    check(&[], expect![""]).await;
    check(
        &[(Stdout, "a\nb"), (Stderr, "e1\n"), (Stdout, "c\n\nlast")],
        expect![[r#"
            2026-11-23T17:20:00.000000000Z stdout F a
            2026-11-23T17:20:00.000000000Z stderr F e1
            2026-11-23T17:20:00.000000000Z stdout F bc
            2026-11-23T17:20:00.000000000Z stdout F 
            2026-11-23T17:20:00.000000000Z stdout F last
        "#]],
    )
    .await;
    check(
        &[(Stdout, &format!("{}\n", "x".repeat(MAX_LINE_BYTES + 10)))],
        expect![[r#"
            2026-11-23T17:20:00.000000000Z stdout P xxxxxxxx... 16424 bytes
            2026-11-23T17:20:00.000000000Z stdout F xxxxxxxxxx
        "#]],
    )
    .await;
}

#[tokio::test]
async fn what_is_written_too_fast_is_dropped_and_told() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join("0.log");
    let bounds = LogBounds { file_bytes: 64 << 20, files: 2 };
    let writer = LogWriter::start(Arc::new(Fixed), bounds).expect("thread");
    let log = writer.open(path.clone());
    let line = format!("{}\n", "x".repeat(1024 - AROUND_BYTES));
    let instance = InstanceLog::new(log.clone());
    for _ in 0..9 << 10 {
        instance.write(Stream::Stdout, line.as_bytes());
        if log.is_full() {
            // The disk keeps up: what is lost is lost to the rate alone.
            log.flush().await;
        }
    }
    drop(instance);
    log.flush().await;
    writer.end();
    let text = fs::read_to_string(&path).expect("text");
    assert_eq!(text.lines().count(), (8 << 10) + 1);
    let told =
        "windlass: 1024 lines (1048576 bytes) were dropped here: a container may write 8 MiB";
    assert!(text.lines().last().expect("a line").contains(told));
    assert_eq!(log.dropped_lines(), 1024);
}

#[tokio::test]
async fn a_full_disk_loses_lines_and_stops_nobody() {
    let writer = LogWriter::start(Arc::new(Fixed), LogBounds::default()).expect("thread");
    let log = writer.open("/dev/full".into());
    let instance = InstanceLog::new(log.clone());
    instance.write(Stream::Stdout, b"one\ntwo\n");
    log.flush().await;
    assert_eq!(log.dropped_lines(), 2);
    // Others are written meanwhile.
    let folder = tempfile::tempdir().expect("temporary folder");
    let other = writer.open(folder.path().join("0.log"));
    InstanceLog::new(other.clone()).write(Stream::Stdout, b"three\n");
    other.flush().await;
    assert!(fs::read_to_string(folder.path().join("0.log")).expect("text").ends_with("three\n"));
    writer.end();
}

#[tokio::test]
async fn a_command_waits_and_loses_nothing() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join("0.log");
    let writer = LogWriter::start(Arc::new(Fixed), LogBounds::default()).expect("thread");
    let log = writer.open(path.clone());
    log.be_patient();
    let instance = InstanceLog::new(log.clone());
    let mut stream = instance.stream(Stream::Stdout);
    let mut written = 0;
    while let Ok(room @ 1..) = stream.check_write() {
        let mut text = vec![b'x'; room];
        text.iter_mut().step_by(1024).for_each(|byte| *byte = b'\n');
        OutputStream::write(&mut stream, text.into()).expect("permitted");
        written += room;
        log.flush().await;
    }
    // Time stands still here: it would wait for ever.
    assert!((7 << 20..=8 << 20).contains(&written), "{written}");
    assert_eq!(log.dropped_lines(), 0);
    let waits = tokio::time::timeout(Duration::from_millis(20), stream.ready());
    assert!(waits.await.is_err());
    writer.end();
}
