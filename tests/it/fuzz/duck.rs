//! One DuckDB for many cases.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::Value;

use crate::support::readers;

/// A Python process that runs statements in DuckDB.
pub struct Duck {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Duck {
    pub fn start() -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/readers/worker.py");
        let mut child = Command::new(readers())
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python starts");
        let input = child.stdin.take().expect("a pipe");
        let output = BufReader::new(child.stdout.take().expect("a pipe"));
        Self { child, input, output }
    }

    /// The rows of each statement.
    pub fn run(&mut self, statements: &[String]) -> Vec<Vec<Vec<Value>>> {
        let request = serde_json::to_string(statements).expect("text");
        writeln!(self.input, "{request}").expect("python reads");
        let mut line = String::new();
        self.output.read_line(&mut line).expect("python answers");
        let answers: Vec<Value> = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{line:?}: {e}"));
        let rows = |(answer, statement): (Value, &String)| {
            serde_json::from_value(answer.clone()).unwrap_or_else(|_| panic!("DuckDB: {answer}\n{statement}"))
        };
        answers.into_iter().zip(statements).map(rows).collect()
    }
}

impl Drop for Duck {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
