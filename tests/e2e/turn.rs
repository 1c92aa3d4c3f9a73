//! TURN and STUN, as coturn's clients find them.

use std::process::Output;

use serde_json::Value;
use tokio::process::Command;

use crate::support::weir::Weir;
use crate::support::within;

const SECRET: &str = "a secret of the north";

fn config(more: &str) -> String {
    format!("[turn]\nlisten = \"127.0.0.1:0\"\nexternal_ip = \"127.0.0.1\"\nsecret = \"{SECRET}\"\n{more}")
}

fn port(weir: &Weir) -> String {
    let run = std::fs::read(weir.dir.path().join("data/run.json")).unwrap();
    let run: Value = serde_json::from_slice(&run).unwrap();
    run["turn"].as_str().unwrap().rsplit(':').next().unwrap().to_owned()
}

async fn run(program: &str, arguments: &[&str]) -> (Output, String) {
    let mut command = Command::new(program);
    let output = within(program, command.args(arguments).kill_on_drop(true).output()).await.unwrap();
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output, text)
}

/// Two clients who talk to each other by their relayed addresses.
async fn talk(weir: &Weir, secret: &str, flags: &[&str]) -> (Output, String) {
    let port = port(weir);
    let ten = ["-y", "-W", secret, "-u", "ann", "-p", &port, "-n", "10", "-m", "1"];
    run("turnutils_uclient", &[&ten, flags, &["127.0.0.1"]].concat()).await
}

#[tokio::test]
async fn coturns_clients_are_answered_and_relayed() {
    let weir = Weir::configured(&config("allow_peers = [\"127.0.0.0/8\"]\n")).await;
    let (output, text) = run("turnutils_stunclient", &["-p", &port(&weir), "127.0.0.1"]).await;
    assert!(output.status.success() && text.contains("UDP reflexive addr: 127.0.0.1:"), "{text}");
    for flags in [&[][..], &["-t"], &["-c"], &["-s"]] {
        let (output, text) = talk(&weir, SECRET, flags).await;
        assert!(output.status.success(), "{flags:?}: {text}");
        assert!(text.contains("Total lost packets 0 (0.000000%)"), "{flags:?}: {text}");
    }
    assert!(weir.metric("weir_turn_relayed_bytes_total{direction=\"to_peer\"}").await.unwrap() > 0.0);
    // Neither stranger nor friend leaves a secret in the log.
    let (output, text) = talk(&weir, "another", &[]).await;
    assert!(!output.status.success(), "{text}");
    let (_, log) = weir.stop().await;
    assert!(!log.contains(SECRET), "{log}");
}

#[tokio::test]
async fn nothing_is_relayed_to_inner_networks_unless_allowed() {
    let weir = Weir::configured(&config("")).await;
    let (_, text) = talk(&weir, SECRET, &[]).await;
    assert!(!text.contains("Total lost packets 0 (0.000000%)"), "{text}");
    assert_eq!(weir.metric("weir_turn_relayed_bytes_total{direction=\"to_peer\"}").await, Some(0.0));
    assert!(weir.metric("weir_turn_refused_total{reason=\"peer\"}").await.unwrap() > 0.0);
}
