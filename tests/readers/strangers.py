"""Tables as other writers make them, for the linter: each below the folder given, one line of JSON a table with what went wrong
while it was written (null if nothing did)."""
import datetime
import decimal
import json
import os
import sys

import polars
import pyarrow
import pyarrow.compute
import pyarrow.parquet
from deltalake import DeltaTable, WriterProperties, write_deltalake

ROOT = sys.argv[1]
DAY = datetime.date(2026, 11, 23)
NOON = datetime.datetime(2026, 11, 23, 12, tzinfo=datetime.timezone.utc)


def rows(**more):
    """Four rows of two days; `more` are further columns."""
    return pyarrow.table(
        {
            "id": pyarrow.array([1, 2, 3, 4], pyarrow.int64()),
            "city": pyarrow.array(["Aiken", "Utica", None, "Aiken"]),
            "amount": pyarrow.array([decimal.Decimal("10.50")] * 4, pyarrow.decimal128(20, 2)),
            "at": pyarrow.array([NOON] * 4, pyarrow.timestamp("us", tz="UTC")),
            **more,
            "day": pyarrow.array([DAY, DAY, DAY - datetime.timedelta(1), DAY]),
        }
    )


def write(path, table, **options):
    write_deltalake(path, table, partition_by=options.pop("partition_by", ["day"]), **options)


def plain(path):
    write(path, rows())


def appended(path):
    for _ in range(3):
        write(path, rows(), mode="append")


def unpartitioned(path):
    write(path, rows(), partition_by=None)


def overwritten(path):
    appended(path)
    write(path, rows(), mode="overwrite")


def replaced_where(path):
    appended(path)
    write(path, rows().slice(0, 2), mode="overwrite", predicate=f"day = '{DAY}'")


def empty(path):
    DeltaTable.create(path, rows().schema, partition_by=["day"])


def emptied(path):
    write(path, rows())
    DeltaTable(path).delete()


def widened_by_a_column(path):
    write(path, rows())
    write(path, rows(extra=pyarrow.array([1.5] * 4)), mode="append", schema_mode="merge")


def deleted_updated_merged(path):
    write(path, rows())
    snappy = WriterProperties(compression="SNAPPY")
    table = DeltaTable(path)
    table.delete("id = 2", writer_properties=snappy)
    table.update(updates={"city": "'Utica'"}, predicate="id = 1", writer_properties=snappy)
    merge = table.merge(rows(), "s.id = t.id", source_alias="s", target_alias="t", writer_properties=snappy)
    merge.when_matched_update_all().when_not_matched_insert_all().execute()


def checkpointed(path):
    appended(path)
    DeltaTable(path).create_checkpoint()
    write(path, rows(), mode="append")


def checkpointed_and_cleaned(path):
    write(path, rows(), configuration={"delta.logRetentionDuration": "interval 0 days"})
    for _ in range(3):
        write(path, rows(), mode="append")
    DeltaTable(path).create_checkpoint()
    DeltaTable(path).cleanup_metadata()


def checkpointed_in_parts(path):
    """As Spark writes checkpoints of many files: its rows cut in two by pyarrow, which indexes no page."""
    appended(path)
    DeltaTable(path).create_checkpoint()
    log = os.path.join(path, "_delta_log")
    whole = os.path.join(log, f"{2:020}.checkpoint.parquet")
    table = pyarrow.parquet.read_table(whole)
    for part, rows_of in enumerate((table.slice(0, 3), table.slice(3)), 1):
        pyarrow.parquet.write_table(rows_of, os.path.join(log, f"{2:020}.checkpoint.{part:010}.{2:010}.parquet"))
    os.remove(whole)
    with open(os.path.join(log, "_last_checkpoint"), "w", encoding="utf-8") as last:
        json.dump({"version": 2, "size": table.num_rows, "parts": 2}, last)


def wide_and_checkpointed(path):
    write(path, rows(**{f"c{n}": pyarrow.nulls(4, pyarrow.string()) for n in range(40)}))
    DeltaTable(path).create_checkpoint()


def compacted_and_vacuumed(path):
    for _ in range(12):
        write(path, rows(), mode="append")
    table = DeltaTable(path)
    table.optimize.compact(writer_properties=WriterProperties(compression="SNAPPY"))
    table.vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)


def compacted_by_default(path):
    appended(path)
    DeltaTable(path).optimize.compact()


def z_ordered(path):
    appended(path)
    DeltaTable(path).optimize.z_order(["city"], writer_properties=WriterProperties(compression="SNAPPY"))


def many_small_files(path):
    """Of a date that is long over; the newest dates may still be written."""
    old = rows().set_column(4, "day", pyarrow.array([DAY - datetime.timedelta(9)] * 4))
    for _ in range(12):
        write(path, old, mode="append")
    write(path, rows(), mode="append")


def generate(path):
    """Manifests of URIs, as the same call writes them on S3: of a table in a folder it names plain paths."""
    DeltaTable(path).generate()
    for folder, _, names in os.walk(os.path.join(path, "_symlink_format_manifest")):
        for name in names:
            manifest = os.path.join(folder, name)
            with open(manifest, encoding="utf-8") as file:
                text = file.read().replace(path, "file://" + path)
            with open(manifest, "w", encoding="utf-8") as file:
                file.write(text)


def with_manifests(path):
    appended(path)
    generate(path)


def with_manifests_of_a_folder(path):
    appended(path)
    DeltaTable(path).generate()


def with_stale_manifests(path):
    appended(path)
    generate(path)
    write(path, rows(), mode="append")


def restored(path):
    appended(path)
    DeltaTable(path).restore(0)


def zstd(path):
    write(path, rows(), writer_properties=WriterProperties(compression="ZSTD"))


def gzip(path):
    write(path, rows(), writer_properties=WriterProperties(compression="GZIP"))


def brotli(path):
    write(path, rows(), writer_properties=WriterProperties(compression="BROTLI"))


def without_statistics(path):
    write(path, rows(), configuration={"delta.dataSkippingNumIndexedCols": "0"})


def with_bloom_filters(path):
    from deltalake import BloomFilterProperties, ColumnProperties

    properties = ColumnProperties(bloom_filter_properties=BloomFilterProperties(True, 0.01, 1000))
    write(path, rows(), writer_properties=WriterProperties(compression="SNAPPY", default_column_properties=properties))


def naive_times(path):
    write(path, rows(seen=pyarrow.array([NOON.replace(tzinfo=None)] * 4, pyarrow.timestamp("us"))))


def nanoseconds(path):
    write(path, rows(seen=pyarrow.array([NOON] * 4, pyarrow.timestamp("ns", tz="UTC"))))


def milliseconds_of_a_zone(path):
    write(path, rows(seen=pyarrow.array([NOON] * 4, pyarrow.timestamp("ms", tz="Europe/Berlin"))))


def unsigned(path):
    write(path, rows(level=pyarrow.array([1, 2, 3, 100], pyarrow.uint8()), n=pyarrow.array([1] * 4, pyarrow.uint32())))


def bytes_and_small_decimals(path):
    fee = pyarrow.array([decimal.Decimal("1.50")] * 4, pyarrow.decimal128(10, 2))
    write(path, rows(level=pyarrow.array([1] * 4, pyarrow.int8()), fee=fee))


def nested(path):
    tags = pyarrow.array([[("a", "b")]] * 4, pyarrow.map_(pyarrow.string(), pyarrow.string()))
    write(path, rows(place=pyarrow.array([{"lat": 1.0, "long": 2.0}] * 4), tags=tags))


def lists(path):
    write(path, rows(marks=pyarrow.array([[1, 2]] * 4), steps=pyarrow.array([[{"n": 1, "at": "x"}]] * 4)))


def other_strings(path):
    dictionary = pyarrow.array(["a", "b", "a", "b"]).dictionary_encode()
    write(path, rows(large=pyarrow.array(["x"] * 4, pyarrow.large_string()), word=dictionary, photo=pyarrow.array([b"\xff"] * 4)))


def odd_names(path):
    write(path, rows(**{"Level": pyarrow.array([1] * 4), "user": pyarrow.array([1] * 4), "a b": pyarrow.array([1] * 4)}))


def odd_partitions(path):
    write(path, rows(place=pyarrow.array(["New York", "a/b", "é", "x=1"])), partition_by=["place"])


def null_partition(path):
    write(path, rows(), partition_by=["city"])


def two_partition_columns(path):
    write(path, rows(region=pyarrow.array(["us", "eu", "us", "eu"])), partition_by=["day", "region"])


def partitioned_by_a_time(path):
    write(path, rows(), partition_by=["at"])


def deletion_vectors_allowed(path):
    write(path, rows(), configuration={"delta.enableDeletionVectors": "true"})


def change_data_feed(path):
    write(path, rows(), configuration={"delta.enableChangeDataFeed": "true"})
    DeltaTable(path).delete("id = 2", writer_properties=WriterProperties(compression="SNAPPY"))


def column_mapping(path):
    write(path, rows(), configuration={"delta.columnMapping.mode": "name"})


def append_only(path):
    write(path, rows(), configuration={"delta.appendOnly": "true"})


def constrained(path):
    write(path, rows())
    DeltaTable(path).alter.add_constraint({"positive": "id > 0"})


def checkpoints_of_version_2(path):
    write(path, rows(), configuration={"delta.checkpointPolicy": "v2"})
    DeltaTable(path).create_checkpoint()


def logs_compacted(path):
    appended(path)
    DeltaTable(path).compact_logs(0, 2)
    write(path, rows(), mode="append")


def applications(path):
    from deltalake import CommitProperties, Transaction

    named = CommitProperties(app_transactions=[Transaction("loader", 7)])
    write(path, rows(), commit_properties=named)
    run = CommitProperties(app_transactions=[Transaction("run-0b9d6f3e-55f1-4c2b-9a3e-6a1f2f0c7d10", 0)])
    write(path, rows(), mode="append", commit_properties=run)


def convert(path, table, **options):
    """A folder of Parquet files of pyarrow's, with a Delta log added to it."""
    from deltalake import Field, Schema, convert_to_deltalake

    for day in sorted(set(table["day"].to_pylist())):
        folder = os.path.join(path, f"day={day}")
        os.makedirs(folder)
        rows_of = table.filter(pyarrow.compute.equal(table["day"], day)).drop_columns(["day"])
        pyarrow.parquet.write_table(rows_of, os.path.join(folder, "part-0.parquet"), **options)
    convert_to_deltalake(path, partition_by=Schema([Field("day", "date")]), partition_strategy="hive")


def converted(path):
    convert(path, rows())


def converted_int96(path):
    convert(path, rows(), use_deprecated_int96_timestamps=True)


def converted_unsigned(path):
    convert(path, rows(level=pyarrow.array([1] * 4, pyarrow.uint32())))


def converted_nanoseconds(path):
    convert(path, rows(seen=pyarrow.array([NOON] * 4, pyarrow.timestamp("ns", tz="UTC"))))


def converted_pages_of_version_2(path):
    convert(path, rows(), data_page_version="2.0", use_dictionary=False, column_encoding={"id": "DELTA_BINARY_PACKED"})


def by_polars(path):
    polars.from_arrow(rows()).write_delta(path, delta_write_options={"partition_by": ["day"]})
    polars.from_arrow(rows()).write_delta(path, mode="append")


def by_polars_with_its_types(path):
    frame = polars.from_arrow(rows()).with_columns(
        polars.lit(7, polars.UInt16).alias("level"),
        polars.lit(datetime.datetime(2026, 1, 1)).alias("seen"),
    )
    frame.write_delta(path)


CASES = [
    plain, appended, unpartitioned, overwritten, replaced_where, empty, emptied, widened_by_a_column, deleted_updated_merged,
    checkpointed, checkpointed_and_cleaned, checkpointed_in_parts, wide_and_checkpointed, compacted_and_vacuumed, compacted_by_default, z_ordered,
    many_small_files, with_manifests, with_manifests_of_a_folder, with_stale_manifests, restored, zstd, gzip, brotli, without_statistics, with_bloom_filters, naive_times, nanoseconds, milliseconds_of_a_zone, unsigned,
    bytes_and_small_decimals, nested, lists, other_strings, odd_names, odd_partitions, null_partition, two_partition_columns,
    partitioned_by_a_time, deletion_vectors_allowed, change_data_feed, column_mapping, append_only, constrained,
    checkpoints_of_version_2, logs_compacted, applications, converted,
    converted_int96, converted_unsigned, converted_nanoseconds, converted_pages_of_version_2, by_polars, by_polars_with_its_types,
]

for case in CASES:
    error = None
    try:
        case(os.path.join(ROOT, case.__name__))
    except Exception as refused:  # noqa: BLE001: whatever a writer refuses is told
        error = f"{type(refused).__name__}: {refused}"[:300]
    print(json.dumps({"table": case.__name__, "error": error}), flush=True)
