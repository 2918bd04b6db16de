"""Kinesis Producer Library aggregates by AWS's own Python module. Each line of standard input is a JSON object:
{"write": [[key, hash key or null, data in hex], ...], "bytes": most bytes of an aggregate} prints the aggregates made of them, an
array of hex; {"read": hex} prints the user records, an array of [key, hash key, data in hex, sub-sequence number], or null for
a plain record; {"parse": hex} prints whether the bytes are a message AggregatedRecord at all."""
import base64
import json
import os
import sys

import aws_kinesis_agg

# The generated modules import each other by their plain names.
sys.path.insert(0, os.path.dirname(aws_kinesis_agg.__file__))

from aws_kinesis_agg.aggregator import RecordAggregator
from aws_kinesis_agg.deaggregator import deaggregate_records
from google.protobuf.message import DecodeError
import messages_pb2


def write(records, most):
    made = []
    aggregator = RecordAggregator(most)
    for key, hash_key, data in records:
        full = aggregator.add_user_record(key, bytes.fromhex(data), hash_key)
        if full:
            made.append(full)
    made.append(aggregator.clear_and_get())
    return [record.get_contents()[2].hex() for record in made]


def read(data):
    record = {
        "kinesis": {
            "kinesisSchemaVersion": "1.0",
            "sequenceNumber": "1",
            "partitionKey": "k",
            "approximateArrivalTimestamp": 0,
            "data": base64.b64encode(data),
        }
    }
    found = [user_record["kinesis"] for user_record in deaggregate_records([record])]
    if len(found) == 1 and "aggregated" not in found[0]:
        return None
    return [
        [r["partitionKey"], r["explicitHashKey"], base64.b64decode(r["data"]).hex(), r["subSequenceNumber"]] for r in found
    ]


def parse(message):
    try:
        parsed = messages_pb2.AggregatedRecord()
        parsed.ParseFromString(message)
        return parsed.IsInitialized()
    except DecodeError:
        return False


for line in sys.stdin:
    asked = json.loads(line)
    if "write" in asked:
        print(json.dumps(write(asked["write"], asked["bytes"])))
    elif "read" in asked:
        print(json.dumps(read(bytes.fromhex(asked["read"]))))
    else:
        print(json.dumps(parse(bytes.fromhex(asked["parse"]))))
