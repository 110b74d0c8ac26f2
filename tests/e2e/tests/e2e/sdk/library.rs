//! A person's first minute with the SDK, and the same done by a program with its library.

use std::{process::Command, time::Instant};

use anyhow::{Context, ensure};
use windlass_tests_e2e::{http_get, tool, wait_for};

use super::Desk;
use crate::shared;

/// For the sake of machines that do other things meanwhile, and that build Rust's std first.
const MOST_SECONDS: u64 = 180;

#[test]
fn the_first_minute_and_the_same_by_a_program() -> anyhow::Result<()> {
    let desk = Desk::new("sdk-first")?;
    let began = Instant::now();
    let mut marks = Vec::new();
    let mut mark =
        |what: &str| marks.push(format!("{what} {:.1} s", began.elapsed().as_secs_f64()));
    desk.works(&["new", "cart"])?;
    mark("new");
    desk.works(&["build", "cart"])?;
    mark("build");
    let url = desk.deploy("cart")?.lines().last().context("it prints a URL")?.to_owned();
    mark("deploy");
    let curl = Command::new("curl").args(["--silent", "--fail", &url]).output()?;
    assert_eq!(String::from_utf8_lossy(&curl.stdout), "Hello from cart\n");
    mark("curl");
    println!("first minute, from its beginning: {}", marks.join(", "));
    ensure!(began.elapsed().as_secs() < MOST_SECONDS, "it took {:?}", began.elapsed());

    // The example program of sdk/client; cargo builds examples beside the binary.
    desk.edit("cart/src/lib.rs", "Hello from", "Good day from")?;
    let ship = tool("WINDLASS_BIN")?.with_file_name("examples").join("ship");
    let output = desk.command(&ship, &["cart", desk.namespace]).output();
    let output = output.with_context(|| ship.display().to_string())?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{said}");
    let image = String::from_utf8(output.stdout)?;
    assert!(image.starts_with("windlass.local/sdk-first/cart@sha256:"), "{image}");
    wait_for("what the program deployed answers", 10, || {
        http_get(&url).ok().filter(|answer| *answer == (200, "Good day from cart\n".to_owned()))
    });
    // It is what the command would deploy: nothing is to change.
    let output = desk.windlass(&["deploy", "cart", "--namespace", desk.namespace, "--dry-run"])?;
    let said = String::from_utf8(output.stderr)?;
    assert_eq!(said.matches(": unchanged").count(), 2, "{said}");
    let kubectl = shared().kubectl(37)?.in_namespace(desk.namespace);
    assert_eq!(
        kubectl.jsonpath("deployment cart", "{.spec.template.spec.containers[0].image}")?,
        image.trim()
    );
    Ok(())
}
