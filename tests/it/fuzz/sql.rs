//! A random query as text: for Lakeward, and for DuckDB.
//!
//! DuckDB knows no window call here: windows are plain arithmetic on whole microseconds, written from their definition.

use super::query::{Query, Window};
use crate::events::SECOND_US;

impl Query {
    /// The query file.
    pub fn ours(&self) -> String {
        let keys: String = self.keys.iter().enumerate().map(|(n, key)| format!(", {key} AS k{n}")).collect();
        let aggregates: String = self.aggregates.iter().enumerate().map(|(n, a)| format!(", {} AS a{n}", a.ours)).collect();
        let groups: String = self.keys.iter().map(|key| format!(", {key}")).collect();
        let filter = self.filter.as_ref().map_or(String::new(), |filter| format!("\n  WHERE {filter}"));
        let having = self.having.as_ref().map_or(String::new(), |having| format!("\n  HAVING {having}"));
        format!(
            "-- Random.\nCREATE MATERIALIZED VIEW {}\nWITH (partition_by = 'day', allowed_lateness = '{} seconds')\n\
             AS SELECT window_start, window_end, CAST(window_start AS DATE) AS day{keys}{aggregates}\n  FROM {}{filter}\n  \
             GROUP BY window_start, window_end{groups}{having}\n",
            self.name,
            self.lateness_s,
            self.call()
        )
    }

    fn call(&self) -> String {
        let seconds = |count: i64| format!("INTERVAL '{count} seconds'");
        match self.window {
            Window::Tumble { size, offset: 0 } => format!("TUMBLE(events, at, {})", seconds(size)),
            Window::Tumble { size, offset } => format!("TUMBLE(events, at, {}, {})", seconds(size), seconds(offset)),
            Window::Hop { slide, size } => format!("HOP(events, at, {}, {})", seconds(slide), seconds(size)),
            Window::Cumulate { step, size } => format!("CUMULATE(events, at, {}, {})", seconds(step), seconds(size)),
            Window::Session { gap } => {
                let keys: String = self.keys.iter().map(|key| format!(", {key}")).collect();
                format!("SESSION(events, at, {}{keys})", seconds(gap))
            }
        }
    }

    /// The same over DuckDB's table `ev`; with `late`, less the pairs of row and window that were refused: those whose
    /// window had been closed in the slot before the row's epoch, by the table `closed` (query, epoch, closed_us).
    pub fn duck(&self, late: bool) -> String {
        let keys: String = self.keys.iter().map(|key| format!(", {key}")).collect();
        let aggregates: String = self.aggregates.iter().map(|a| format!(", {}", a.duck)).collect();
        let mut conditions: Vec<String> = self.filter.iter().cloned().collect();
        if late {
            conditions.push("(closed_us IS NULL OR we > closed_us)".into());
        }
        let filter = if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) };
        let having = self.having.as_ref().map_or(String::new(), |having| format!(" HAVING {having}"));
        let rows = match late {
            true => format!("(SELECT ev.*, closed_us FROM ev LEFT JOIN closed ON closed.epoch = ev.epoch AND closed.query = '{}')", self.name),
            false => "ev".to_owned(),
        };
        format!(
            "SELECT ws, we{keys}{aggregates} FROM ({}){filter} GROUP BY ws, we{keys}{having}",
            self.windows(&rows, late)
        )
    }

    fn windows(&self, rows: &str, late: bool) -> String {
        // DuckDB's remainder has the sign of the dividend, as C's.
        let start = |size: i64, offset: i64| format!("at_us - ((at_us - {offset}) % {size} + {size}) % {size}");
        match self.window {
            Window::Tumble { size, offset } => {
                let (size, offset) = (size * SECOND_US, offset * SECOND_US);
                format!("SELECT *, {} AS ws, ws + {size} AS we FROM {rows}", start(size, offset))
            }
            Window::Hop { slide, size } => {
                let (slide, size) = (slide * SECOND_US, size * SECOND_US);
                let hops = size.div_euclid(slide) + 1;
                let all = format!(
                    "SELECT *, {} - unnest(range(0, {hops})) * {slide} AS ws, ws + {size} AS we FROM {rows}",
                    start(slide, 0)
                );
                format!("SELECT * FROM ({all}) WHERE we > at_us")
            }
            Window::Cumulate { step, size } => {
                let (step, size) = (step * SECOND_US, size * SECOND_US);
                let all = format!(
                    "SELECT *, {} AS ws, ws + unnest(range(1, {} + 1)) * {step} AS we FROM {rows}",
                    start(size, 0),
                    size / step
                );
                format!("SELECT * FROM ({all}) WHERE we > at_us")
            }
            Window::Session { gap } => {
                let gap = gap * SECOND_US;
                let by = if self.keys.is_empty() { "1".to_owned() } else { self.keys.join(", ") };
                // A row exactly a gap after the one before joins its session; a row at a closed time is late.
                let on_time = if late { " WHERE closed_us IS NULL OR at_us > closed_us" } else { "" };
                let begins = format!(
                    "SELECT *, CASE WHEN at_us - lag(at_us) OVER (PARTITION BY {by} ORDER BY at_us) <= {gap} THEN 0 ELSE 1 END \
                     AS begins FROM {rows}{on_time}"
                );
                let numbered = format!(
                    "SELECT *, sum(begins) OVER (PARTITION BY {by} ORDER BY at_us RANGE UNBOUNDED PRECEDING) AS session \
                     FROM ({begins})"
                );
                format!(
                    "SELECT *, min(at_us) OVER (PARTITION BY session, {by}) AS ws, \
                     max(at_us) OVER (PARTITION BY session, {by}) + {gap} AS we FROM ({numbered})"
                )
            }
        }
    }
}
