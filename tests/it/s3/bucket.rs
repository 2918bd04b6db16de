//! A bucket for each test, in one S3 server of this test run, behind a proxy of the test's own.

use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use super::proxy::Proxy;
use crate::moto::Moto;
use crate::support::{Scratch, readers, text};

/// The lake's prefix in every bucket.
pub const PREFIX: &str = "some/lake";

fn server() -> &'static Moto {
    static SERVER: OnceLock<Moto> = OnceLock::new();
    SERVER.get_or_init(Moto::start)
}

/// One bucket.
pub struct Bucket {
    pub name: String,
    pub proxy: Proxy,
}

impl Bucket {
    pub fn new(name: &str) -> Self {
        let bucket = Self::missing(name);
        let (status, said) = bucket.proxy.ask("PUT", &format!("/{name}"));
        assert_eq!(status, 200, "{said}");
        bucket
    }

    /// A name that no bucket has.
    pub fn missing(name: &str) -> Self {
        Self { name: name.to_owned(), proxy: Proxy::before(&server().url()) }
    }

    pub fn url(&self) -> String {
        format!("s3://{}/{PREFIX}", self.name)
    }

    /// A scratch whose lake is in this bucket, and whose commands have credentials.
    pub fn scratch(&self) -> Scratch {
        self.without_credentials().env("AWS_ACCESS_KEY_ID", "writer").env("AWS_SECRET_ACCESS_KEY", "secret")
    }

    /// A scratch whose commands find no credentials, whatever this machine has.
    pub fn without_credentials(&self) -> Scratch {
        Scratch::new()
            .set(&format!("lake.url={}", self.url()))
            .set(&format!("s3.endpoint={}", self.proxy.url))
            .set("s3.allow_http=true")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("AWS_CONFIG_FILE", "/dev/null")
            .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
            .env("NO_PROXY", "127.0.0.1")
    }

    /// Keys of the lake's slots.
    pub fn slots(&self) -> usize {
        let (status, listed) = self.proxy.ask("GET", &format!("/{}?list-type=2&prefix={PREFIX}/_epochs/", self.name));
        assert_eq!(status, 200, "{listed}");
        listed.matches(".json</Key>").count()
    }

    /// Copies the lake into the scratch's folder, by a client that shares no code with ours.
    pub fn copy_to(&self, scratch: &Scratch) {
        let copied = Command::new(readers())
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/readers/bucket.py"))
            .args([&server().url(), &self.name, PREFIX])
            .arg(scratch.lake())
            .output()
            .unwrap();
        assert!(copied.status.success(), "{}", text(&copied.stderr));
    }
}
