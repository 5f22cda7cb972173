//! Finds libkqueue with pkg-config if the feature `libkqueue` is enabled on Linux.

use std::env;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=PKG_CONFIG_PATH");
    let is_enabled = env::var_os("CARGO_FEATURE_LIBKQUEUE").is_some();
    let is_linux = env::var("CARGO_CFG_TARGET_OS").is_ok_and(|system| system == "linux");
    if is_enabled && is_linux {
        find_libkqueue();
    }
}

fn find_libkqueue() {
    let output = Command::new("pkg-config").args(["--libs", "libkqueue"]).output();
    match output {
        Ok(output) if output.status.success() => {
            let flags = String::from_utf8_lossy(&output.stdout);
            for folder in flags.split_whitespace().filter_map(|flag| flag.strip_prefix("-L")) {
                println!("cargo::rustc-link-search=native={folder}");
            }
        }
        // Not an error: `cargo check` does not link.
        _ => println!(
            "cargo::warning=feature libkqueue: pkg-config finds no libkqueue; linking will fail \
             unless the linker finds it by itself"
        ),
    }
}
