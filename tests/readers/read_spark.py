"""Spark without Delta: parquet-mr over the log's files, which are those of the manifests: the nearest to Spectrum there is off line.

Rows go through parquet-mr's own record assembly; aggregates through Spark's vectorised reader.
"""
import os

from pyspark.sql import SparkSession

from delta_log import assert_manifests
from reading import from_row, select, serve

spark = (
    SparkSession.builder.master("local[2]")
    .config("spark.ui.enabled", "false")
    .config("spark.sql.session.timeZone", "UTC")
    .config("spark.sql.shuffle.partitions", "2")
    .config("spark.driver.bindAddress", "127.0.0.1")
    .config("spark.driver.host", "127.0.0.1")
    .config("spark.sql.execution.arrow.pyspark.enabled", "true")
    .getOrCreate()
)
spark.sparkContext.setLogLevel("ERROR")
TYPES = {"long": "bigint", "integer": "int", "short": "smallint"}


def read(table, snapshot, pinned):
    assert_manifests(table, snapshot, pinned)
    files = list(snapshot.files)
    schema = ", ".join(f"`{name}` {TYPES.get(delta_type, delta_type)}" for name, delta_type in snapshot.columns)
    if files:
        paths = [os.path.join(table, file) for file in files]
        frame = spark.read.schema(schema).option("basePath", table).parquet(*paths)
    else:
        frame = spark.createDataFrame([], schema)
    # Spark puts the partition's column last.
    frame = frame.select(*[f"`{name}`" for name, _ in snapshot.columns])
    frame.createOrReplaceTempView("t")
    spark.conf.set("spark.sql.parquet.enableVectorizedReader", "false")
    rows = frame.toArrow()
    spark.conf.set("spark.sql.parquet.enableVectorizedReader", "true")
    return rows, from_row(snapshot.columns, list(spark.sql(select(snapshot.columns, "t", "`")).first()))


serve(read)
