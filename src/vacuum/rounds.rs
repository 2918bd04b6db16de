//! When the running job vacuums: once a day, and listing the tables once a week.
//!
//! The one law: what was done is recorded in the lake, so that a job that is started every day still has its weekly round,
//! and one that is started every minute not sixty a day. A lake without a record counts as vacuumed just now.

use object_store::path::Path;
use serde::{Deserialize, Serialize};

use super::Scope;
use crate::clock::Micros;
use crate::config::{self, micros};
use crate::error::Result;
use crate::lake::{Bookmark, Lake};

/// Where a lake says when it was vacuumed.
const ROUNDS: &str = "_vacuumed.json";

/// When each kind of round has ended, microseconds UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rounds {
    lite: Option<Micros>,
    full: Option<Micros>,
}

impl Rounds {
    /// What the lake says; a lake that says nothing is new, and told so.
    ///
    /// # Errors
    /// [`crate::Error::External`] when the store does not answer.
    pub async fn read(lake: &Lake, now: Micros) -> Result<Self> {
        let mut rounds: Self = bookmark(lake).read_if_sound().await?.unwrap_or_default();
        if rounds == Self::default() {
            rounds.done(lake, Scope::Full, now).await?;
        }
        Ok(rounds)
    }

    /// What is due now.
    pub fn due(&self, settings: &config::Retention, now: Micros) -> Option<Scope> {
        let since =
            |last: Option<Micros>, interval: Micros| last.is_none_or(|last| now.saturating_sub(last) >= interval);
        if !settings.enabled {
            return None;
        }
        if since(self.full, micros(settings.orphans_interval)) {
            return Some(Scope::Full);
        }
        since(self.lite, micros(settings.interval)).then_some(Scope::Lite)
    }

    /// Records that a round has ended.
    ///
    /// # Errors
    /// [`crate::Error::External`] when the store does not answer.
    pub async fn done(&mut self, lake: &Lake, scope: Scope, now: Micros) -> Result<()> {
        self.lite = Some(now);
        if scope == Scope::Full {
            self.full = Some(now);
        }
        bookmark(lake).write(self).await
    }
}

fn bookmark(lake: &Lake) -> Bookmark {
    Bookmark::new(lake.store(), Path::from(ROUNDS), format!("`{ROUNDS}` of the lake"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    const HOUR: Micros = 3_600_000_000;

    #[tokio::test]
    async fn rounds_come_daily_and_weekly_across_restarts() {
        let folder = tempfile::tempdir().unwrap();
        let config = Config::load(None, &[]).unwrap();
        let lake = Lake::open(folder.path().to_str().unwrap(), &config.s3).unwrap();
        let settings = config.retention;
        let mut full = Vec::new();
        let mut lite = Vec::new();
        for hour in 0..24 * 15 {
            let mut rounds = Rounds::read(&lake, hour * HOUR).await.unwrap();
            let now = hour * HOUR;
            let Some(scope) = rounds.due(&settings, now) else { continue };
            rounds.done(&lake, scope, now).await.unwrap();
            if scope == Scope::Full { full.push(hour / 24) } else { lite.push(hour / 24) }
        }
        assert_eq!(full, [7, 14]);
        assert_eq!(lite, [1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 12, 13]);
        let settings = config::Retention { enabled: false, ..settings };
        assert_eq!(Rounds::default().due(&settings, 0), None);
    }
}
