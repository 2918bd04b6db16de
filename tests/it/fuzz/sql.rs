//! A random query as text: for Lakeward, and for DuckDB.
//!
//! DuckDB knows no window call here: windows are plain arithmetic on whole microseconds, written from their definition.

use super::query::{Join, Query, Reads, Window};
use crate::events::SECOND_US;

impl Query {
    /// The query's files, those it reads before it: name and text.
    pub fn files(&self) -> Vec<(String, String)> {
        let mut files = match &self.reads {
            Reads::View { parent, .. } => parent.files(),
            Reads::Views { one, other, .. } => [one.files(), other.files()].concat(),
            Reads::Table { kept, .. } => vec![(self.table(), kept_rows(&self.table(), kept))],
            Reads::Stream | Reads::File { .. } | Reads::Itself { .. } => Vec::new(),
        };
        files.push((self.name.clone(), self.ours()));
        files
    }

    /// The table of the lake that [`Reads::Table`] is joined with.
    pub fn table(&self) -> String {
        format!("{}t", self.name)
    }

    /// The query file.
    pub fn ours(&self) -> String {
        let keys: String = self.keys.iter().enumerate().map(|(n, key)| format!(", {key} AS k{n}")).collect();
        let aggregates: String =
            self.aggregates.iter().enumerate().map(|(n, a)| format!(", {} AS a{n}", a.ours)).collect();
        let groups: String = self.keys.iter().map(|key| format!(", {key}")).collect();
        let filter = self.filter.as_ref().map_or(String::new(), |filter| format!("\n  WHERE {filter}"));
        let having = self.having.as_ref().map_or(String::new(), |having| format!("\n  HAVING {having}"));
        let (start, end) = (self.bound("window_start"), self.bound("window_end"));
        let grouped = match self.is_listed() {
            true => String::new(),
            false => format!("\n  GROUP BY {start}, {end}{groups}{having}"),
        };
        format!(
            "-- Random.\nCREATE MATERIALIZED VIEW {}\nWITH (partition_by = 'day', allowed_lateness = '{} seconds')\n\
             AS SELECT {start} AS window_start, {end} AS window_end, CAST({start} AS DATE) AS day{keys}{aggregates}\n  \
             FROM {}{filter}{grouped}\n",
            self.name,
            self.lateness_s,
            self.from()
        )
    }

    /// A bound of the windows, whichever side has it.
    fn bound(&self, column: &str) -> String {
        match self.reads {
            _ if self.is_listed() => format!("coalesce(a.{column}, b.{column})"),
            Reads::Itself { .. } | Reads::Views { .. } => format!("a.{column}"),
            Reads::Stream | Reads::File { .. } | Reads::Table { .. } | Reads::View { .. } => column.to_owned(),
        }
    }

    fn from(&self) -> String {
        let same = "a.window_start = b.window_start AND a.window_end = b.window_end";
        match &self.reads {
            Reads::Stream => self.call("events", "at"),
            Reads::File { join } => {
                let windows = self.call("events", "at");
                format!("{windows} e {} 'lookups/kinds.csv' s ON s.kk = e.k", word(*join))
            }
            Reads::Table { join, .. } => format!(
                "{} e {} (SELECT k AS kk, count(*) AS seen, sum(amount) AS spent FROM {} GROUP BY k) s ON s.kk = e.k",
                self.call("events", "at"),
                word(*join),
                self.table()
            ),
            Reads::View { parent, by_end } => {
                self.call(&parent.name, if *by_end { "window_end" } else { "window_start" })
            }
            Reads::Itself { join, on } => {
                let windows = self.call("events", "at");
                format!("{windows} a {} {windows} b ON {same} AND a.k = b.k{on}", word(*join))
            }
            Reads::Views { one, other, join, named } => {
                let side = |view: &Query| match named {
                    true => view.name.clone(),
                    false => self.call(&view.name, "window_start"),
                };
                format!("{} a {} {} b ON {same} AND a.k0 = b.k0", side(one), word(*join), side(other))
            }
        }
    }

    fn call(&self, table: &str, time: &str) -> String {
        let seconds = |count: i64| format!("INTERVAL '{count} seconds'");
        match self.window {
            Window::Tumble { size, offset: 0 } => format!("TUMBLE({table}, {time}, {})", seconds(size)),
            Window::Tumble { size, offset } => {
                format!("TUMBLE({table}, {time}, {}, {})", seconds(size), seconds(offset))
            }
            Window::Hop { slide, size } => format!("HOP({table}, {time}, {}, {})", seconds(slide), seconds(size)),
            Window::Cumulate { step, size } => {
                format!("CUMULATE({table}, {time}, {}, {})", seconds(step), seconds(size))
            }
            Window::Zone { zone, days, cells: 1, .. } => {
                format!("TUMBLE({table}, {time}, INTERVAL '{days} days', '{zone}')")
            }
            Window::Zone { zone, days, cells, grows } => format!(
                "{}({table}, {time}, INTERVAL '{days} days', INTERVAL '{} days', '{zone}')",
                if grows { "CUMULATE" } else { "HOP" },
                days * cells
            ),
            Window::Session { gap } => {
                let keys: String = self.keys.iter().map(|key| format!(", {key}")).collect();
                format!("SESSION({table}, {time}, {}{keys})", seconds(gap))
            }
        }
    }

    /// What the stream answers, over DuckDB's table `ev`; where rows may be `late`, less the pairs of row and window that
    /// were refused.
    pub fn duck(&self, late: bool) -> String {
        self.duck_over(late, late, false)
    }

    /// What a batch run answers: every row counts, but views over windows are read as they stand.
    pub fn duck_batch(&self, late: bool) -> String {
        self.duck_over(false, late, true)
    }

    /// `own`: rows may be late for the query itself, `above`: for what it reads. A pair of row and window is refused whose
    /// window had been closed in the slot before the row's epoch, by the table `closed` (query, epoch, closed_us). `newest`:
    /// tables are joined as they are, not as an epoch saw them.
    fn duck_over(&self, own: bool, above: bool, newest: bool) -> String {
        let keys: String = self.keys.iter().enumerate().map(|(n, key)| format!(", {key} AS k{n}")).collect();
        let aggregates: String =
            self.aggregates.iter().enumerate().map(|(n, a)| format!(", {} AS a{n}", a.duck)).collect();
        let groups: String = self.keys.iter().map(|key| format!(", {key}")).collect();
        let filter = self.filter.as_ref().map_or(String::new(), |filter| format!(" WHERE ({filter})"));
        let having = self.having.as_ref().map_or(String::new(), |having| format!(" HAVING {having}"));
        let bounds = ["ws", "we"].map(|bound| self.bound(bound)).join(", ");
        let same = "a.ws = b.ws AND a.we = b.we";
        let rows_of = |view: &Query, time: &str| {
            format!("(SELECT {time} AS at_us, * EXCLUDE (ws, we) FROM ({}))", view.duck_over(above, above, false))
        };
        let from = match &self.reads {
            Reads::Stream => self.counted(own),
            Reads::File { join } => format!("{} e {} kinds s ON s.kk = e.k", self.counted(own), word(*join)),
            Reads::Table { join, kept } => self.with_table(&self.counted(own), *join, kept, newest),
            Reads::View { parent, by_end } => {
                format!("({})", self.windows(&rows_of(parent, if *by_end { "we" } else { "ws" }), false))
            }
            Reads::Itself { join, on } => {
                let rows = self.counted(own);
                format!("{rows} a {} {rows} b ON {same} AND a.k = b.k{on}", word(*join))
            }
            Reads::Views { one, other, join, .. } => {
                let side = |view: &Query| format!("({})", self.windows(&rows_of(view, "ws"), false));
                format!("{} a {} {} b ON {same} AND a.k0 = b.k0", side(one), word(*join), side(other))
            }
        };
        let grouped = match self.is_listed() {
            true => String::new(),
            false => format!(" GROUP BY {bounds}{groups}{having}"),
        };
        format!("SELECT {bounds}{keys}{aggregates} FROM {from}{filter}{grouped}")
    }

    /// Rows joined with what the table held: in the version their epoch saw, by the table `saw` (query, epoch, through: the
    /// last epoch whose rows that version holds), or in the newest.
    fn with_table(&self, rows: &str, join: Join, kept: &str, newest: bool) -> String {
        let held = "SELECT k AS kk, count(*) AS seen, sum(amount) AS spent";
        if newest {
            return format!("{rows} e {} ({held} FROM ev WHERE {kept} GROUP BY k) s ON s.kk = e.k", word(join));
        }
        let saw = format!("(SELECT epoch AS saw_epoch, through FROM saw WHERE query = '{}')", self.name);
        let versions = format!("(SELECT DISTINCT through AS held_through FROM {saw})");
        format!(
            "({rows} e LEFT JOIN {saw} ON saw_epoch = e.epoch) {} ({held}, held_through FROM ev JOIN {versions} \
             ON ev.epoch <= held_through WHERE {kept} GROUP BY k, held_through) s ON s.kk = k AND held_through = through",
            word(join)
        )
    }

    /// Rows of the stream and their windows, less those refused.
    fn counted(&self, late: bool) -> String {
        if !late {
            return format!("({})", self.windows("ev", false));
        }
        let rows = format!(
            "(SELECT ev.*, closed_us FROM ev LEFT JOIN closed ON closed.epoch = ev.epoch AND closed.query = '{}')",
            self.name
        );
        format!("(SELECT * FROM ({}) WHERE closed_us IS NULL OR we > closed_us)", self.windows(&rows, true))
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
            Window::Zone { zone, days, cells, grows } => {
                // Marks are the local midnights of every so many days since 1970; `c` numbers the cell of a row.
                let mark = |number: &str| {
                    format!(
                        "epoch_us(timezone('{zone}', CAST(DATE '1970-01-01' + CAST(({number}) * {days} AS INTEGER) AS TIMESTAMP)))"
                    )
                };
                let local = format!("CAST(timezone('{zone}', timezone('UTC', make_timestamp(at_us))) AS DATE)");
                let day = format!("date_diff('day', DATE '1970-01-01', {local})");
                let celled = format!("SELECT *, CAST(floor({day} / {days}) AS BIGINT) AS c FROM {rows}");
                let all = match grows {
                    true => {
                        let first = format!("CAST(floor(c / {cells}) AS BIGINT) * {cells}");
                        format!(
                            "SELECT * EXCLUDE (c, j), {} AS ws, {} AS we FROM (SELECT *, unnest(range(1, {cells} + 1)) AS j FROM ({celled}))",
                            mark(&first),
                            mark(&format!("{first} + j"))
                        )
                    }
                    false => format!(
                        "SELECT * EXCLUDE (c, j), {} AS ws, {} AS we FROM (SELECT *, unnest(range(0, {cells})) AS j FROM ({celled}))",
                        mark("c - j"),
                        mark(&format!("c - j + {cells}"))
                    ),
                };
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

fn word(join: Join) -> &'static str {
    match join {
        Join::Inner => "JOIN",
        Join::Left => "LEFT JOIN",
        Join::Full => "FULL JOIN",
    }
}

/// The view whose table others look into.
fn kept_rows(name: &str, kept: &str) -> String {
    format!(
        "-- Random.\nCREATE MATERIALIZED VIEW {name}\nWITH (partition_by = 'day')\nAS SELECT at, day, id, k, amount\n  \
         FROM events\n  WHERE {kept}\n"
    )
}

/// The translations themselves, for every kind of window, against loops that only add and compare.
#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::events::START_US;
    use crate::fuzz::duck::Duck;
    use crate::fuzz::query::KINDS;

    /// The windows `[start, end)` a row falls into, of all windows near it.
    fn walked(window: Window, at: i64) -> Vec<(i64, i64)> {
        let first = |size: i64, offset: i64| {
            let mut start = offset;
            while start > at {
                start -= size;
            }
            while start + size <= at {
                start += size * if at - start > 1_000 * size { 1_000 } else { 1 };
            }
            start
        };
        let us = |seconds: i64| seconds * SECOND_US;
        match window {
            Window::Tumble { size, offset } => {
                let start = first(us(size), us(offset));
                vec![(start, start + us(size))]
            }
            Window::Hop { slide, size } => {
                let mut start = first(us(slide), 0);
                let mut windows = Vec::new();
                while start + us(size) > at {
                    windows.push((start, start + us(size)));
                    start -= us(slide);
                }
                windows
            }
            Window::Cumulate { step, size } => {
                let start = first(us(size), 0);
                let mut end = start + us(step);
                let mut windows = Vec::new();
                while end <= start + us(size) {
                    if end > at {
                        windows.push((start, end));
                    }
                    end += us(step);
                }
                windows
            }
            Window::Zone { zone, days, cells, grows } => walked_days(zone, days, cells, grows, at),
            Window::Session { .. } => panic!("a session is no function of one row"),
        }
    }

    /// Local midnights of every so many days since 1970, looked for from some years before the rows on.
    fn walked_days(zone: &str, days: i64, cells: i64, grows: bool, at: i64) -> Vec<(i64, i64)> {
        use chrono::TimeZone;
        let zone: chrono_tz::Tz = zone.parse().unwrap();
        let first = 20_000 / days;
        let mut date = chrono::NaiveDate::from_ymd_opt(1970, 1, 1).unwrap() + chrono::TimeDelta::days(first * days);
        let mut marks: Vec<(usize, i64)> = Vec::new();
        while marks.last().is_none_or(|(_, last)| *last < at + 30 * 86_400 * SECOND_US) {
            let midnight = zone.from_local_datetime(&date.and_hms_opt(0, 0, 0).unwrap()).unwrap();
            marks.push((usize::try_from(first).unwrap() + marks.len(), midnight.timestamp_micros()));
            date += chrono::TimeDelta::days(days);
        }
        let cells = usize::try_from(cells).unwrap();
        let mut windows = Vec::new();
        for (number, start) in &marks {
            let ends = match grows {
                true if number % cells != 0 => 0..0,
                true => number + 1..number + cells + 1,
                false => number + cells..number + cells + 1,
            };
            let ends = marks.iter().filter(|(number, _)| ends.contains(number));
            windows.extend(ends.map(|(_, end)| (*start, *end)).filter(|(start, end)| *start <= at && at < *end));
        }
        windows
    }

    /// Sessions of all rows of one key, in order of time.
    fn sessions(times: &[i64], gap: i64) -> Vec<(i64, i64, i64)> {
        let mut rows = Vec::new();
        for (number, at) in times.iter().enumerate() {
            let (mut from, mut to) = (number, number);
            while from > 0 && times[from] - times[from - 1] <= gap * SECOND_US {
                from -= 1;
            }
            while to + 1 < times.len() && times[to + 1] - times[to] <= gap * SECOND_US {
                to += 1;
            }
            rows.push((*at, times[from], times[to] + gap * SECOND_US));
        }
        rows
    }

    #[test]
    fn translations_are_what_the_windows_mean() {
        let mut duck = Duck::start();
        let mut random = ChaCha8Rng::seed_from_u64(9);
        for kind in KINDS.repeat(20) {
            let window = Window::of(kind, &mut random);
            let span = [30, 4_000, 400_000][random.random_range(0..3)];
            // The last ones cross the end of summer time.
            let start_us = [START_US, START_US, START_US + 180 * 86_400 * SECOND_US][random.random_range(0..3)];
            let times: BTreeSet<i64> = (0..30)
                .map(|_| start_us + random.random_range(0..span) * SECOND_US - random.random_range(0..2))
                .collect();
            let times: Vec<i64> = times.into_iter().collect();
            let mut expected: Vec<(i64, i64, i64)> = match window {
                Window::Session { gap } => sessions(&times, gap),
                _ => times.iter().flat_map(|at| walked(window, *at).into_iter().map(|(s, e)| (*at, s, e))).collect(),
            };
            expected.sort_unstable();
            let query = Query {
                name: "q".into(),
                reads: Reads::Stream,
                window,
                keys: Vec::new(),
                aggregates: Vec::new(),
                filter: None,
                having: None,
                lateness_s: 0,
            };
            let rows: Vec<String> = times.iter().map(|at| format!("({at})")).collect();
            let rows = format!("(SELECT CAST(col0 AS BIGINT) AS at_us FROM (VALUES {}))", rows.join(", "));
            let select = format!("SELECT at_us, ws, we FROM ({}) ORDER BY ALL", query.windows(&rows, false));
            let found: Vec<(i64, i64, i64)> = duck.run(&[select])[0]
                .iter()
                .map(|row| (row[0].as_i64().unwrap(), row[1].as_i64().unwrap(), row[2].as_i64().unwrap()))
                .collect();
            assert_eq!(found, expected, "{window:?}");
        }
    }
}
