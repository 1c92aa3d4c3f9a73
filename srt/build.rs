//! Links libsrt and the OpenSSL that it encrypts with into the binary, so that it runs where neither is installed. With
//! `WEIR_SRT_DYNAMIC` set they are loaded at run time instead, and get the distribution's repairs.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-env-changed=WEIR_SRT_DYNAMIC");
    println!("cargo:rerun-if-env-changed=WEIR_SRT_LIB");
    println!("cargo:rerun-if-changed=build.rs");
    if env::var_os("CARGO_FEATURE_LIBSRT").is_none() {
        return;
    }
    let folder = folder();
    println!("cargo::rustc-check-cfg=cfg(srt_without_filters)");
    let is_there = |name: &str| folder.as_ref().is_some_and(|folder| folder.join(name).is_file());
    let is_static =
        env::var_os("WEIR_SRT_DYNAMIC").is_none() && is_there("libsrt.a") && is_there("libcrypto.a");
    if let (true, Some(folder)) = (is_static, &folder) {
        without_filters(&folder.join("libsrt.a"));
    }
    if let Some(folder) = &folder {
        println!("cargo:rustc-link-search=native={}", folder.display());
    }
    let kind = if is_static { "static:-bundle" } else { "dylib" };
    println!("cargo:rustc-link-lib={kind}=srt");
    if is_static {
        println!("cargo:rustc-link-lib={kind}=crypto");
        println!("cargo:rustc-link-lib=dylib=stdc++");
    }
}

/// `FECFilterBuiltin::verifyConfig`, in whose place `raw` has its own.
const VERIFY: &str = "_ZN3srt16FECFilterBuiltin12verifyConfigERKNS_15SrtFilterConfigERNSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE";

/// Puts a copy of the library first in which callers' packet filters are decided about by `raw`.
fn without_filters(library: &Path) {
    let Some(out) = env::var_os("OUT_DIR").map(PathBuf::from) else { return };
    let mut copy = Command::new("objcopy");
    copy.arg(format!("--weaken-symbol={VERIFY}")).arg(library).arg(out.join("libsrt.a"));
    match copy.status() {
        Ok(status) if status.success() => {
            println!("cargo:rustc-link-search=native={}", out.display());
            println!("cargo:rustc-cfg=srt_without_filters");
        }
        failed => {
            println!("cargo:warning=callers of SRT may choose packet filters: objcopy failed ({failed:?})");
        }
    }
}

/// Where libsrt is: where one says, where pkg-config knows it, or where Debian puts it.
fn folder() -> Option<PathBuf> {
    if let Some(folder) = env::var_os("WEIR_SRT_LIB") {
        return Some(folder.into());
    }
    let asked = Command::new("pkg-config").args(["--variable=libdir", "srt"]).output();
    if let Ok(said) = asked
        && said.status.success()
    {
        return Some(Path::new(String::from_utf8_lossy(&said.stdout).trim()).to_owned());
    }
    let machine = env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_default();
    let folder = PathBuf::from(format!("/usr/lib/{machine}-linux-gnu"));
    folder.is_dir().then_some(folder)
}
