//! What the tests share: a lake of one's own, the real binary, and readers nobody here wrote.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant, UNIX_EPOCH};

use serde_json::Value;
use tempfile::TempDir;

/// The token key of every test, in hex.
pub const TOKEN_KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

/// A lake in a folder of its own, and the real binary set up to use it.
pub struct Scratch {
    folder: TempDir,
    settings: Vec<String>,
    environment: Vec<(String, String)>,
}

impl Scratch {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a temporary folder"), settings: Vec::new(), environment: Vec::new() }
    }

    /// One more `--set` for every command.
    pub fn set(mut self, assignment: &str) -> Self {
        self.settings.push(assignment.to_owned());
        self
    }

    /// One more environment variable for every command.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn lake(&self) -> PathBuf {
        self.path("lake")
    }

    /// The lake's table as DuckDB's own Delta reader sees it.
    pub fn delta(&self, table: &str) -> String {
        format!("delta_scan('file://{}')", self.lake().join(table).display())
    }

    /// `lakeward <args>`, not started yet.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lakeward"));
        command.current_dir(env!("CARGO_MANIFEST_DIR"));
        // A developer's account and settings are none of the tests' business.
        let foreign = |name: &str| name.starts_with("AWS_") || name.starts_with("LAKEWARD_");
        for (name, _) in std::env::vars().filter(|(name, _)| foreign(name)) {
            command.env_remove(name);
        }
        command.env("LAKEWARD_TOKEN_KEY", TOKEN_KEY).env("RUST_BACKTRACE", "1");
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.arg("--set").arg(format!("lake.url={}", self.lake().display()));
        for setting in &self.settings {
            command.arg("--set").arg(setting);
        }
        command.args(args);
        command
    }

    /// Runs `lakeward <args>` to its end.
    pub fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("the binary starts")
    }

    /// Runs `lakeward <args>`, which must succeed; returns its standard output.
    pub fn must(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "lakeward {args:?} ended with {}:\n{out}\n{err}", output.status);
        out
    }

    /// Runs `lakeward run … --json`, which must succeed; returns the summary.
    pub fn summary(&self, args: &[&str]) -> Value {
        let mut all = vec!["run"];
        all.extend(args);
        all.extend(["--until-caught-up", "--json"]);
        let out = self.must(&all);
        serde_json::from_str(out.trim()).unwrap_or_else(|e| panic!("no summary in {out:?}: {e}"))
    }

    /// Starts `lakeward <args>` in the background, its output in files of the scratch folder.
    pub fn spawn(&self, name: &str, args: &[&str]) -> Child {
        let file = |kind: &str| fs::File::create(self.path(&format!("{name}.{kind}"))).expect("a log file");
        self.command(args)
            .stdin(Stdio::null())
            .stdout(file("out"))
            .stderr(file("err"))
            .spawn()
            .expect("the binary starts")
    }

    /// A file of simulated transactions in the data set's own format.
    pub fn simulated(&self, name: &str, rows: u32) -> PathBuf {
        let path = self.path(name);
        self.must(&["simulate", "--rows", &rows.to_string(), "--out", path.to_str().expect("a UTF-8 path")]);
        path
    }
}

/// Says something although the test passes: what is printed by `eprintln!` would be kept back.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// What a test leaves to chance follows from this: given by `variable`, or else by the clock. A test that fails says it.
pub fn seed(variable: &str) -> usize {
    let given = std::env::var(variable).map(|text| text.parse().unwrap_or_else(|_| panic!("{variable}={text}")));
    let seed = given.unwrap_or_else(|_| UNIX_EPOCH.elapsed().expect("a clock after 1970").subsec_nanos() as usize);
    // Kept back unless the test fails.
    eprintln!("play it again with {variable}={seed}");
    seed
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// How many slots a lake has.
pub fn slots(lake: &Path) -> usize {
    let Ok(entries) = fs::read_dir(lake.join("_epochs")) else { return 0 };
    entries.filter(|entry| entry.as_ref().is_ok_and(|e| e.path().extension().is_some_and(|e| e == "json"))).count()
}

/// Waits until `happened`, or the job has ended by itself (`false`).
pub fn wait_for(job: &mut Child, happened: impl Fn() -> bool) -> bool {
    let patience = Instant::now() + Duration::from_secs(120);
    while !happened() {
        assert!(Instant::now() < patience, "the job makes no progress");
        if job.try_wait().expect("the job can be asked").is_some() {
            return false;
        }
        std::thread::yield_now();
    }
    true
}

/// Rows of a query in DuckDB: an engine, a CSV reader and a Delta reader that share no code with ours.
pub fn duckdb(sql: &str) -> Vec<Vec<Value>> {
    let rows = read_by("duck.py", &[], sql);
    rows.lines().map(|line| serde_json::from_str(line).expect("a JSON row")).collect()
}

/// What each statement of a script says, as sqlglot understands it (`tests/readers/parse.py`).
pub fn parsed(dialect: &str, script: &str) -> Vec<Value> {
    let lines = read_by("parse.py", &[dialect], script);
    lines.lines().map(|line| serde_json::from_str(line).expect("a JSON object")).collect()
}

/// What AWS's own model of Glue's API refuses of these inputs (`tests/readers/glue.py`).
pub fn glue_refuses(document: &str) -> Vec<String> {
    read_by("glue.py", &[], document).lines().map(str::to_owned).collect()
}

/// Writes tables of other writers below a folder (`tests/readers/strangers.py`); returns (table, what its writer refused).
pub fn strangers(lake: &Path) -> Vec<(String, Value)> {
    fs::create_dir_all(lake).expect("a folder");
    let lines = read_by("strangers.py", &[lake.to_str().expect("a UTF-8 path")], "");
    let lines = lines.lines().map(|line| serde_json::from_str::<Value>(line).expect("a JSON object"));
    lines.map(|line| (line["table"].as_str().expect("a name").to_owned(), line["error"].clone())).collect()
}

/// What a script of `tests/readers` prints, given this on standard input.
pub fn read_by(script: &str, args: &[&str], input: &str) -> String {
    read_with(script, args, &[], input)
}

/// The same, with these variables of the environment.
pub fn read_with(script: &str, args: &[&str], variables: &[(&str, &str)], input: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/readers").join(script);
    let mut child = Command::new(readers())
        .arg(path)
        .args(args)
        .envs(variables.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("python starts");
    child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("python reads");
    let output = child.wait_with_output().expect("python ends");
    assert!(output.status.success(), "{script} {args:?} refused\n{input}\n{}", text(&output.stderr));
    text(&output.stdout)
}

/// The Python that has the readers; installs them (pinned) on first use.
pub fn readers() -> &'static Path {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    PYTHON.get_or_init(|| installed("readers", "requirements.txt"))
}

/// The Python of an environment of its own, with what a list in `tests/readers` names; made anew when the list has changed.
pub fn installed(environment: &str, requirements: &str) -> PathBuf {
    // One at a time: several tests may want the same one.
    static INSTALLING: Mutex<()> = Mutex::new(());
    let _one = INSTALLING.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(environment);
    let requirements = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/readers").join(requirements);
    let wanted = fs::read_to_string(&requirements).expect("the list of readers");
    let stamp = folder.join("installed.txt");
    let python = folder.join("bin/python");
    if fs::read_to_string(&stamp).ok().as_ref() != Some(&wanted) {
        must(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder));
        must(Command::new(&python).args(["-m", "pip", "install", "--quiet", "-r"]).arg(&requirements));
        fs::write(&stamp, wanted).expect("the stamp is written");
    }
    python
}

/// Ctrl-C.
pub fn interrupt(job: &Child) {
    let sent = Command::new("kill").args(["-INT", &job.id().to_string()]).output().unwrap();
    assert!(sent.status.success(), "{}", text(&sent.stderr));
}

fn must(command: &mut Command) {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(output.status.success(), "{command:?}: {}", text(&output.stderr));
}
