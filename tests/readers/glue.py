"""Holds the inputs of Glue's API, a JSON document from standard input, against AWS's own model of it; prints what is wrong."""
import json
import sys

import botocore.session
from botocore.validate import ParamValidator

model = botocore.session.get_session().get_service_model("glue")
for call, inputs in json.load(sys.stdin).items():
    shape = model.operation_model(call).input_shape
    for number, given in enumerate(inputs):
        report = ParamValidator().validate(given, shape)
        if report.has_errors():
            print(f"{call} {number}: {report.generate_report()}".replace("\n", " "))
