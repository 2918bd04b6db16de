//! Which shards a stream has: ListShards, to the last page.
//!
//! The one law: a listing is whole. A page whose token has expired is not left out; the listing begins again.

use std::collections::BTreeSet;

use super::backoff::{ATTEMPTS_UNBOUNDED, Backoff, Failure, Trouble};
use super::client::Client;
use super::lineage::ListedShard;
use crate::error::{Error, Result};

/// Listings begun again because the token of the next page had expired. A listing takes milliseconds a page; the token
/// lives five minutes.
const LISTINGS_MAX: usize = 5;

/// Asks for the shards of a stream.
///
/// # Errors
/// [`Error::Usage`] when there is no such stream; [`Error::External`] when the service refuses to tell.
pub async fn list_shards(client: &Client, stream: &str) -> Result<Vec<ListedShard>> {
    let what = format!("listing the shards of stream `{stream}`");
    let mut backoff = Backoff::new(client, stream);
    for _ in 0..LISTINGS_MAX {
        match list(client, stream, &what, &mut backoff).await {
            Ok(shards) => return Ok(shards),
            Err(failure) if failure.trouble == Trouble::ExpiredToken => tracing::debug!("{what}: {failure}"),
            Err(failure) if failure.trouble == Trouble::NotFound => {
                return Err(Error::usage(client.site().no_stream(stream, &failure.to_string())));
            }
            Err(failure) => return Err(failure.into_error(what)),
        }
    }
    Err(Error::external(what, "its page tokens expire before they can be used"))
}

async fn list(client: &Client, stream: &str, what: &str, backoff: &mut Backoff) -> Result<Vec<ListedShard>, Failure> {
    let mut shards = Vec::new();
    let mut token: Option<String> = None;
    loop {
        let request = match &token {
            // A token stands for the stream's name; the service refuses both.
            Some(token) => client.list_shards().next_token(token),
            None => client.list_shards().stream_name(stream),
        };
        let page = backoff.retry(what, ATTEMPTS_UNBOUNDED, || request.clone().send()).await?;
        shards.extend(page.shards.unwrap_or_default().into_iter().map(|shard| {
            let parents: BTreeSet<_> =
                [shard.parent_shard_id, shard.adjacent_parent_shard_id].into_iter().flatten().map(Into::into).collect();
            ListedShard { id: shard.shard_id.into(), parents }
        }));
        token = page.next_token;
        if token.is_none() {
            return Ok(shards);
        }
    }
}
