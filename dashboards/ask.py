"""Runs every query of a dashboard against a Prometheus server: ask.py URL DASHBOARD [FILE]. Called by `check`.

Fails if a query is not valid or returns no number in the whole time range. Writes the answers to FILE, from which the
panels can be drawn.
"""
import json
import math
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

WINDOW_S = 600  # the time range, up to now
STEP_S = 1
# The value that Grafana would substitute, approximately, for a scrape interval of one second.
VARIABLES = {"$__rate_interval": "5s"}


def ask(server, query):
    """Returns the series of a query over the time range."""
    now = time.time()
    form = {"query": query, "start": now - WINDOW_S, "end": now, "step": STEP_S}
    try:
        with urllib.request.urlopen(f"{server}/api/v1/query_range?{urllib.parse.urlencode(form)}") as response:
            return json.load(response)["data"]["result"]
    except urllib.error.HTTPError as error:
        sys.exit(f"{query}\n{json.load(error)['error']}")


def main(server, dashboard, out=None):
    with open(dashboard, encoding="utf-8") as file:
        panels = [panel for panel in json.load(file)["panels"] if "targets" in panel]
    answers, empty = [], []
    for panel in panels:
        for target in panel["targets"]:
            query = target["expr"]
            for name, value in VARIABLES.items():
                query = query.replace(name, value)
            series = ask(server, query)
            numbers = [float(value) for one in series for _, value in one["values"]]
            numbers = [number for number in numbers if math.isfinite(number)]
            highest = f"highest {max(numbers):.4g}" if numbers else "NO NUMBER"
            print(f"{panel['title']}: {target['legendFormat']}: {len(series)} series, {len(numbers)} numbers, {highest}")
            if not numbers:
                empty.append(query)
            answers.append({"panel": panel["id"], "target": target["refId"], "series": series})
    if out:
        with open(out, "w", encoding="utf-8") as file:
            json.dump(answers, file)
    if empty:
        sys.exit("queries without a number:\n" + "\n".join(empty))
    print(f"all {len(answers)} queries of {len(panels)} panels returned numbers")


main(*sys.argv[1:])
