//! `lakeward lake cost`: what the lake, and a query of it, cost on AWS.

use std::process::ExitCode;

use bytesize::ByteSize;

use super::CostArgs;
use super::output::{answer, thousands};
use crate::config::Config;
use crate::cost::{JobRequests, LakeCost, QueryCost, estimate};
use crate::error::{Context, Result};

/// Prints the estimate.
pub(super) async fn cost(config: &Config, args: &CostArgs) -> Result<ExitCode> {
    let cost = estimate(config, args.query.as_deref()).await?;
    match args.json {
        true => answer(&serde_json::to_string(&cost).context(|| "writing the estimate")?)?,
        false => answer(&shown(&cost))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn shown(cost: &LakeCost) -> String {
    let storage = &cost.storage;
    let mut lines = vec![
        format!("list prices of {}, {}; estimates", cost.region, cost.as_of),
        line(
            "S3 storage",
            storage.usd_month,
            &format!(
                "a month: {} in {} objects, {} of it live",
                ByteSize::b(storage.bytes),
                thousands(storage.objects),
                ByteSize::b(storage.live_bytes)
            ),
        ),
    ];
    lines.extend(cost.job.as_ref().map(job));
    lines.push(line("Athena", cost.athena_scan_usd, "for reading every live byte once"));
    lines.push(line("Spectrum", cost.spectrum_scan_usd, "for the same"));
    lines.extend(cost.query.iter().flat_map(query));
    lines.join("\n")
}

fn job(job: &JobRequests) -> String {
    let what = format!(
        "a month: an epoch every {:.0} s with {:.1} PUT and {:.1} GET (mean of {}), {} PUT and {} GET",
        job.interval_seconds,
        job.put_per_epoch,
        job.get_per_epoch,
        job.epochs,
        thousands(job.put_month),
        thousands(job.get_month)
    );
    line("S3 requests", job.usd_month, &what)
}

fn query(query: &QueryCost) -> Vec<String> {
    let tables = query.tables.iter().map(|table| format!("`{table}`")).collect::<Vec<_>>().join(", ");
    let read = format!(
        "the query reads {} of {} ({:.1} %) of {tables}, in {} requests",
        ByteSize::b(query.read_bytes),
        ByteSize::b(query.stored_bytes),
        100.0 * query.read_share,
        thousands(query.requests)
    );
    let billed = |bytes: u64| format!("billed as {}", ByteSize::b(bytes));
    vec![
        read,
        line("  Athena", query.athena.usd, &billed(query.athena.bytes)),
        line("  Spectrum", query.spectrum.usd, &billed(query.spectrum.bytes)),
        line("  S3 requests", query.s3_usd, "on top, in either"),
    ]
}

fn line(name: &str, usd: f64, what: &str) -> String {
    format!("{name:<14} ${usd:>12.6}  {what}")
}
