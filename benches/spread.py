"""A simulated file with its times spread evenly over so many hours from 2020-03-01 on: `spread.py IN OUT HOURS [shuffle]`.

Shuffled (seeded), each part of the file has rows of every hour.
"""
import csv
import datetime
import random
import sys

source, target, hours = sys.argv[1], sys.argv[2], int(sys.argv[3])
with open(source, newline="", encoding="utf-8") as file:
    header, *rows = csv.reader(file)
at = header.index("trans_date_trans_time")
start = datetime.datetime(2020, 3, 1)
for number, row in enumerate(rows):
    row[at] = (start + datetime.timedelta(seconds=number * hours * 3600 // len(rows))).strftime("%Y-%m-%d %H:%M:%S")
if "shuffle" in sys.argv:
    random.Random(7).shuffle(rows)
with open(target, "w", newline="", encoding="utf-8") as file:
    csv.writer(file).writerows([header, *rows])
