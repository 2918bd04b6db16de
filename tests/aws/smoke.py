#!/usr/bin/env python3
"""Asks a real AWS account what nothing on a laptop can answer: do Athena, Redshift Spectrum and a Glue crawler read the lake
as Lakeward does?

    pip install boto3==1.44.5 pyarrow==26.0.1
    tests/aws/smoke.py --lake s3://BUCKET/lakeward-smoke [--results s3://BUCKET/athena-results] \
        [--crawler-role ARN] [--redshift WORKGROUP --redshift-database dev --redshift-role ARN] [--keep]

It creates a stream, up to three databases of the Glue catalog and tables below the given prefix, all with names of its own, sends
some thousand simulated transactions through them with the very binary that is released, asks each reader that is named for
counts, sums and bounds after the first commits, after checkpoints and after a compaction, and takes away everything it
created (but for `--keep`). One of the databases the job keeps itself (`catalog.glue`), and what it has registered there
is held against the lake. With Redshift it also asks what Lakeward avoids by design: does Spectrum read a DECIMAL of 18
digits that is stored as INT64, and does it read zstd? It costs a few cents and about ten minutes. Credentials and region come
from the usual chain. Exit code 1 when an answer differs, or when something is left behind.
"""
import argparse
import decimal
import io
import json
import os
import subprocess
import sys
import tempfile
import time
import uuid
from urllib.parse import urlparse

import boto3
from botocore.exceptions import ClientError

# Seconds a query, a crawler or a stream may take before the run gives up; a crawler needs two minutes to start.
PATIENCE = 600
# What is compared, in words all readers share: {t} makes epoch seconds of a time in the reader's own way.
QUESTIONS = {
    "transactions": "count(*), sum(amount), min({t:event_time}), max({t:event_time})",
    "city_minute": "count(*), sum(transactions), sum(amount), min({t:window_start}), max({t:window_start})",
    "state_minute": "count(*), sum(transactions), sum(amount), min({t:window_start}), max({t:window_end})",
    "category_hour": "count(*), sum(transactions), sum(amount), min({t:window_start}), max({t:window_end})",
    "fraud_alerts": "count(*), sum(amount), min({t:event_time}), max({t:event_time})",
    "epochs": "count(*), sum(read), sum(written)",
}
# The partition column of each.
BY = {table: "event_date" for table in QUESTIONS} | {"epochs": "commit_date"}


class Seconds:
    """Renders `{t:column}` as the epoch seconds of a time, in one dialect."""

    def __init__(self, pattern):
        self.pattern = pattern

    def __format__(self, column):
        return self.pattern.format(column)


# Files that no Lakeward writes: (name, what is asked, codec, whether decimals are integers), of these amounts.
PROBES = [
    ("int64_decimal", "a DECIMAL(18,2) stored as INT64", "snappy", True),
    ("zstd", "zstd", "zstd", False),
]
AMOUNTS = ["0.01", "123456789.99", "-5.50"]


DIALECTS = {
    "lakeward": Seconds("CAST(to_unixtime({}) AS BIGINT)"),
    "athena": Seconds("CAST(to_unixtime({}) AS BIGINT)"),
    "spectrum": Seconds("CAST(extract(epoch FROM {}) AS BIGINT)"),
}


def question(dialect, table, name):
    return f"SELECT {QUESTIONS[table].format(t=DIALECTS[dialect])} FROM {name}"


class Smoke:
    def __init__(self, args):
        self.args = args
        self.id = "lakeward_smoke_" + uuid.uuid4().hex[:8]
        self.url = f"{args.lake.rstrip('/')}/{self.id}"
        # boto3 itself does not look at AWS_REGION.
        self.session = boto3.Session(region_name=args.region or os.environ.get("AWS_REGION"))
        self.region = self.session.region_name or sys.exit("no region: give --region or set AWS_REGION")
        # Another server of AWS's APIs, for a rehearsal of this program itself.
        self.endpoint = os.environ.get("AWS_ENDPOINT_URL")
        self.environment = os.environ | {"LAKEWARD_TOKEN_KEY": os.environ.get("LAKEWARD_TOKEN_KEY", "5a" * 32)}
        # Of the catalog that the job keeps, and of Redshift's external schema.
        self.kept = self.id + "_kept"
        self.crawled = self.id + "_crawled"
        self.schema = self.id + "_spectrum"
        self.differences = 0
        self.left_behind = 0
        self.undo = []

    # Lakeward

    def lakeward(self, *arguments, **more):
        settings = {
            "lake.url": self.url,
            "stream.endpoint": self.endpoint or "aws",
            "stream.name": self.id,
            "stream.region": self.region,
            "commit.interval": "5s",
            "commit.checkpoint_every": "2",
        } | more
        settings["s3.region"] = self.region
        if self.endpoint:
            settings |= {"s3.endpoint": self.endpoint, "s3.allow_http": str(self.endpoint.startswith("http:")).lower()}
        command = [self.args.lakeward, *arguments]
        for key, value in settings.items():
            command += ["--set", f"{key}={value}"]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            sys.exit(f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def expected(self, table):
        return [plain(value) for value in self.rows(question("lakeward", table, table))[0].values()]

    def rows(self, statement):
        """A JSON object a row."""
        return [json.loads(line) for line in self.lakeward("sql", "--format", "json", statement).splitlines()]

    def statements(self, dialect, *arguments):
        script = self.lakeward("lake", "ddl", dialect, "--database", self.id, *arguments)
        lines = (line for line in script.splitlines() if not line.startswith("--"))
        return [text.strip() for text in "\n".join(lines).split(";\n") if text.strip(" ;\n")]

    # Athena

    def athena(self, statement):
        client = self.session.client("athena")
        begun = client.start_query_execution(
            QueryString=statement.rstrip(";"),
            WorkGroup=self.args.workgroup,
            ResultConfiguration={"OutputLocation": self.args.results},
        )["QueryExecutionId"]
        status = waited(
            lambda: client.get_query_execution(QueryExecutionId=begun)["QueryExecution"]["Status"],
            lambda status: status["State"] in ("SUCCEEDED", "FAILED", "CANCELLED"),
            "a query of Athena",
        )
        if status["State"] != "SUCCEEDED":
            raise RuntimeError(status.get("StateChangeReason", status["State"]))
        rows = client.get_query_results(QueryExecutionId=begun)["ResultSet"]["Rows"]
        return [plain(cell.get("VarCharValue")) for cell in rows[-1]["Data"]] if rows else []

    def ask_athena(self, when):
        for statement in self.statements("athena"):
            self.athena(statement)
        # The tables of its own DDL, and those the job has made by Glue's CreateTable.
        for database, whose in ((self.id, "by DDL"), (self.kept, "by the job")):
            for table in QUESTIONS:
                asked = question("athena", table, f'"{database}"."{table}"')
                self.compare(f"Athena, {whose}, {when}", table, lambda asked=asked: self.athena(asked))

    # Redshift Spectrum

    def redshift(self, statement):
        client = self.session.client("redshift-data")
        begun = client.execute_statement(
            WorkgroupName=self.args.redshift, Database=self.args.redshift_database, Sql=statement
        )["Id"]
        status = waited(
            lambda: client.describe_statement(Id=begun),
            lambda status: status["Status"] in ("FINISHED", "FAILED", "ABORTED"),
            "a statement of Redshift",
        )
        if status["Status"] != "FINISHED":
            raise RuntimeError(status.get("Error", status["Status"]))
        if not status.get("HasResultSet"):
            return []
        return [plain(next(iter(cell.values()))) for cell in client.get_statement_result(Id=begun)["Records"][-1]]

    def ask_spectrum(self, when):
        for statement in self.statements("spectrum", "--iam-role", self.args.redshift_role):
            # The script's schema is `spectrum`; that of this run leads to this run's database and no other's.
            statement = statement.replace('"spectrum"', f'"{self.schema}"')
            try:
                self.redshift(statement)
            except RuntimeError as error:
                # CREATE EXTERNAL TABLE knows no IF NOT EXISTS: the script says that a second run fails there.
                if "already exists" not in str(error):
                    print(f"DIFFERS  Spectrum, {when}: {statement.splitlines()[0]}: {error}")
                    self.differences += 1
        for table in QUESTIONS:
            asked = question("spectrum", table, f'"{self.schema}"."{table}_spectrum"')
            self.compare(f"Spectrum, {when}", table, lambda asked=asked: self.redshift(asked))

    def ask_what_is_avoided(self):
        """What Spectrum makes of files as Lakeward does not write them: an answer, whichever, and no difference."""
        place = urlparse(self.url)
        for name, what, codec, as_integers in PROBES:
            folder = f"{place.path.lstrip('/')}_probes/{name}/"
            body = probe(codec, as_integers)
            self.session.client("s3").put_object(
                Bucket=place.netloc, Key=folder + "part-0.parquet", Body=body
            )
            table = f'"{self.schema}"."probe_{name}"'
            try:
                self.redshift(
                    f"CREATE EXTERNAL TABLE {table} (amount decimal(18,2)) STORED AS PARQUET "
                    f"LOCATION 's3://{place.netloc}/{folder}'"
                )
                found = self.redshift(f"SELECT count(*), sum(amount) FROM {table}")
            except (RuntimeError, ClientError) as error:
                found = f"{type(error).__name__}: {error}"
            wanted = [plain(len(AMOUNTS)), plain(sum(map(decimal.Decimal, AMOUNTS)))]
            print(f"answer   Spectrum {'reads' if found == wanted else 'does not read'} {what}: {found}")

    def drop_schemas(self):
        # The external one, and that of the views.
        for schema in (self.schema, self.id):
            self.redshift(f'DROP SCHEMA IF EXISTS "{schema}" CASCADE')

    # Glue

    def ask_catalog(self, when):
        """What the job registers by itself is what the lake holds."""
        self.lakeward("lake", "manifest", **self.catalog())
        client = self.session.client("glue")
        for table in QUESTIONS:
            dates = self.rows(f"SELECT DISTINCT {BY[table]} AS d FROM {table}")
            wanted = sorted(str(row["d"]) for row in dates)
            try:
                client.get_table(DatabaseName=self.kept, Name=table)
                pages = client.get_paginator("get_partitions").paginate(
                    DatabaseName=self.kept, TableName=f"{table}_spectrum"
                )
                found = sorted(partition["Values"][0] for page in pages for partition in page["Partitions"])
            except ClientError as error:
                found = f"{type(error).__name__}: {error}"
            self.judge(f"Glue, {when}", table, found, wanted)

    def catalog(self):
        return {
            "catalog.glue": "true",
            "catalog.database": self.kept,
            "catalog.region": self.region,
            "catalog.endpoint": self.endpoint or "aws",
        }

    def ask_crawler(self):
        client = self.session.client("glue")
        inputs = json.loads(
            self.lakeward("lake", "ddl", "glue", "--database", self.id, "--iam-role", self.args.crawler_role)
        )
        client.create_database(DatabaseInput={"Name": self.crawled})
        for crawler in inputs["CreateCrawler"]:
            name = crawler["Name"] = f"{self.id}_{crawler['Name']}"
            client.create_crawler(**crawler | {"DatabaseName": self.crawled})
            self.undo.append(lambda: client.delete_crawler(Name=name))
            client.start_crawler(Name=name)
            waited(
                lambda: client.get_crawler(Name=name)["Crawler"]["State"],
                lambda state: state == "READY",
                f"the crawler {name}",
            )
            crawl = client.get_crawler(Name=name)["Crawler"]["LastCrawl"]
            print(f"crawler  {name}: {crawl['Status']} {crawl.get('ErrorMessage', '')}")
            self.differences += crawl["Status"] != "SUCCEEDED"
        # A crawl that found nothing has succeeded, too.
        for table in QUESTIONS:
            try:
                parameters = client.get_table(DatabaseName=self.crawled, Name=table)["Table"].get("Parameters", {})
                kinds = {parameters.get(key, "").lower() for key in ("table_type", "classification", "spark.sql.sources.provider")}
                self.judge("crawler", table, "delta" if "delta" in kinds else parameters, "delta")
            except ClientError as error:
                self.judge("crawler", table, f"{type(error).__name__}: {error}", "delta")
            if self.args.results:
                asked = question("athena", table, f'"{self.crawled}"."{table}"')
                self.compare("Athena, by the crawler", table, lambda asked=asked: self.athena(asked))

    # The run

    def compare(self, reader, table, ask):
        wanted = self.expected(table)
        try:
            found = ask()
        except (RuntimeError, ClientError) as error:
            found = f"{type(error).__name__}: {error}"
        self.judge(reader, table, found, wanted)

    def judge(self, reader, table, found, wanted):
        same = found == wanted
        self.differences += not same
        print(f"{'equal   ' if same else 'DIFFERS '} {reader}: {table} {found}" + ("" if same else f", expected {wanted}"))

    def ask_all(self, when):
        self.ask_catalog(when)
        if self.args.results:
            self.ask_athena(when)
        if self.args.redshift:
            self.ask_spectrum(when)

    def create(self):
        kinesis = self.session.client("kinesis")
        kinesis.create_stream(StreamName=self.id, ShardCount=2)
        self.undo.append(lambda: kinesis.delete_stream(StreamName=self.id, EnforceConsumerDeletion=True))
        waited(
            lambda: kinesis.describe_stream_summary(StreamName=self.id)["StreamDescriptionSummary"]["StreamStatus"],
            lambda status: status == "ACTIVE",
            "the stream",
        )
        self.undo.append(self.drop_databases)
        self.undo.append(self.delete_objects)
        if self.args.redshift:
            self.undo.append(self.drop_schemas)

    def drop_databases(self):
        for database in (self.id, self.kept, self.crawled):
            try:
                self.session.client("glue").delete_database(Name=database)
            except ClientError as error:
                if error.response["Error"]["Code"] != "EntityNotFoundException":
                    raise

    def delete_objects(self):
        place = urlparse(self.url)
        bucket = self.session.resource("s3").Bucket(place.netloc)
        # The lake, and the probes beside it.
        bucket.objects.filter(Prefix=place.path.lstrip("/")).delete()

    def feed(self, rows):
        with tempfile.TemporaryDirectory() as folder:
            file = os.path.join(folder, "purchases.csv")
            self.lakeward("simulate", "--rows", str(rows), "--out", file)
            self.lakeward("replay", file)
        summary = json.loads(self.lakeward("run", "--until-caught-up", "--json", **self.catalog()))
        self.judge("stream", "records", [summary["read"], summary["written"]], [rows, rows])

    def run(self):
        print(f"lake     {self.url}\nstream   {self.id} in {self.region}")
        self.create()
        try:
            self.feed(5_000)
            self.ask_all("after the first commits and checkpoints")
            self.lakeward("lake", "compact")
            self.ask_all("after a compaction")
            if self.args.redshift:
                self.ask_what_is_avoided()
            if self.args.crawler_role:
                self.ask_crawler()
            self.lakeward("audit")
        finally:
            while self.undo and not self.args.keep:
                step = self.undo.pop()
                try:
                    step()
                except (RuntimeError, ClientError) as error:
                    print(f"left behind: {error}", file=sys.stderr)
                    self.left_behind += 1
        print("all answers are equal" if not self.differences else f"{self.differences} answers differ")
        return 1 if self.differences or self.left_behind else 0


def probe(codec, as_integers):
    """A Parquet file of the amounts, in memory."""
    import pyarrow
    import pyarrow.parquet

    amounts = pyarrow.array([decimal.Decimal(amount) for amount in AMOUNTS], pyarrow.decimal128(18, 2))
    file = io.BytesIO()
    table = pyarrow.table({"amount": amounts})
    pyarrow.parquet.write_table(table, file, compression=codec, store_decimal_as_integer=as_integers)
    return file.getvalue()


def plain(value):
    """One text for one value, whichever reader gives it: numbers without trailing zeros."""
    text = "" if value is None else str(value)
    return text.rstrip("0").rstrip(".") if "." in text else text


def waited(look, is_over, what):
    """Looks until it is over, with growing pauses; gives up after PATIENCE."""
    begun, pause = time.monotonic(), 0.2
    while True:
        found = look()
        if is_over(found):
            return found
        if time.monotonic() - begun > PATIENCE:
            sys.exit(f"{what} took longer than {PATIENCE} s: {found}")
        time.sleep(pause)
        pause = min(pause * 1.5, 5)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lake", required=True, help="s3:// prefix the run may write below")
    parser.add_argument("--results", help="s3:// prefix for Athena's results; without it Athena is not asked")
    parser.add_argument("--region", help="by default that of the usual chain")
    parser.add_argument("--workgroup", default="primary", help="Athena's workgroup, engine version 3")
    parser.add_argument("--crawler-role", help="ARN of a role Glue's crawler may take on")
    parser.add_argument("--redshift", help="a Redshift Serverless workgroup")
    parser.add_argument("--redshift-database", default="dev")
    parser.add_argument("--redshift-role", help="ARN of a role Redshift may read S3 and Glue with")
    parser.add_argument("--lakeward", default="target/release/lakeward", help="the binary")
    parser.add_argument("--keep", action="store_true", help="leave everything where it is")
    args = parser.parse_args()
    if args.redshift and not args.redshift_role:
        parser.error("--redshift needs --redshift-role")
    sys.exit(Smoke(args).run())


if __name__ == "__main__":
    main()
