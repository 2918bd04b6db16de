"""Copies a bucket's objects below a prefix into a folder, by Amazon's own Python client.

bucket.py ENDPOINT BUCKET PREFIX FOLDER
"""

import pathlib
import sys

import boto3

endpoint, bucket, prefix, folder = sys.argv[1:]
s3 = boto3.client(
    "s3",
    endpoint_url=endpoint,
    region_name="us-east-1",
    aws_access_key_id="reader",
    aws_secret_access_key="reader",
)
pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix + "/")
for found in (found for page in pages for found in page.get("Contents", [])):
    path = pathlib.Path(folder) / found["Key"][len(prefix) + 1 :]
    path.parent.mkdir(parents=True, exist_ok=True)
    s3.download_file(bucket, found["Key"], str(path))
    print(found["Key"])
