//! How subscriptions to a server are kept.
//!
//! The one law: a subscription is renewed before the server ends it, and no sooner than the server grants another.

use std::time::Duration;

use crate::config::Endpoint;

/// How subscriptions to a server are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Least time between two subscriptions to a shard.
    pub interval: Duration,
    /// A subscription is renewed when it is so old.
    pub renew_after: Duration,
    /// Without an event for so long the shard is polled.
    pub silence_max: Duration,
    /// How long it is polled then, at first and at most: it doubles as long as subscribing does not last longer than that.
    pub polled: [Duration; 2],
    /// A connection for each shard. HTTP/2 carries all subscriptions over one, whose window those that are held back fill
    /// up: the others would look dead.
    pub own_connection: bool,
}

impl Terms {
    /// AWS takes one subscription every five seconds, ends it after five minutes, and sends an event about every five seconds:
    /// six of them are missing after thirty.
    pub const AWS: Self = Self {
        interval: Duration::from_secs(5),
        renew_after: Duration::from_secs(280),
        silence_max: Duration::from_secs(30),
        polled: [Duration::from_secs(60), Duration::from_secs(16 * 60)],
        own_connection: true,
    };

    /// A server of our own takes them as they come; the interval only bounds the cost of one that ends them at once. Others
    /// that run on a laptop send an event every five seconds as AWS does.
    pub const LOCAL: Self = Self {
        interval: Duration::from_millis(50),
        renew_after: Duration::from_secs(280),
        silence_max: Duration::from_secs(11),
        polled: [Duration::from_secs(1), Duration::from_secs(60)],
        own_connection: false,
    };

    /// What the endpoint's server keeps to.
    pub fn for_endpoint(endpoint: &Endpoint) -> Self {
        match endpoint {
            Endpoint::Aws => Self::AWS,
            Endpoint::Embedded | Endpoint::Url(_) => Self::LOCAL,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_renewal_comes_before_aws_ends_the_subscription_and_after_it_takes_another() {
        for terms in [Terms::AWS, Terms::LOCAL] {
            assert!(terms.renew_after < Duration::from_secs(300) && terms.renew_after > terms.interval);
            assert!(terms.silence_max > terms.interval * 2 && terms.polled[0] <= terms.polled[1]);
        }
    }
}
