//! A forgotten `stream.endpoint`: the embedded stream is what everybody has who sets nothing, and it must not come where it
//! was not meant. (On S3: `s3.rs`.)

use crate::kill::server_url;
use crate::support::{Scratch, interrupt, slots, text};

#[test]
fn a_forgotten_endpoint_brings_nothing_into_the_lake_of_a_stream_that_lasts() {
    let scratch = Scratch::new();
    let mut server = scratch.spawn("stream", &["stream", "--listen", "127.0.0.1:0"]);
    let endpoint = format!("stream.endpoint={}", server_url(&scratch, &mut server));
    let file = scratch.simulated("day.csv", 1_000);
    let file = file.to_str().unwrap();
    scratch.must(&["replay", file, "--set", &endpoint]);
    let summary = scratch.summary(&["--set", &endpoint]);
    assert_eq!(summary["written"], 1_000, "{summary}");
    let before = slots(&scratch.lake());
    let replay = ["run", "--replay", file, "--until-caught-up"];
    for args in [&replay[..], &["run"], &["run", "--demo"], &["run", "--set", "stream.name=other"]] {
        let refused = scratch.run(args);
        let said = text(&refused.stderr);
        assert_eq!(refused.status.code(), Some(2), "{args:?}: {said}");
        assert!(
            said.contains("has read the stream `kinesis:transactions`") && said.contains("stream.endpoint"),
            "{said}"
        );
        assert_eq!(slots(&scratch.lake()), before, "{args:?} wrote a slot");
    }
    // The stream goes on where it was.
    let again = scratch.summary(&["--set", &endpoint]);
    assert_eq!(again["read"], 0, "{again}");
    // Its place is taken only by hand.
    let replayed = scratch.summary(&["--replay", file, "--accept-new-stream"]);
    assert_eq!((&replayed["duplicates"], &replayed["written"]), (&1_000.into(), &0.into()), "{replayed}");
    let refused = scratch.run(&["run", "--until-caught-up", "--set", &endpoint]);
    assert!(text(&refused.stderr).contains("was an embedded stream"), "{}", text(&refused.stderr));
    scratch.must(&["audit"]);
    interrupt(&server);
    server.wait().unwrap();
}
