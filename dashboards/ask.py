"""Asks a Prometheus every query of a dashboard: ask.py URL DASHBOARD [FILE]. Called by `check`.

Fails when a query cannot be read, or has no number in the whole range. FILE gets the answers, for whoever wants to
draw them.
"""
import json
import math
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

WINDOW_S = 600  # of the past
STEP_S = 1
# What Grafana puts in for an interval of a second between scrapes, about.
VARIABLES = {"$__rate_interval": "5s"}


def ask(server, query):
    """The series of a query over the window, as Prometheus tells them."""
    now = time.time()
    form = {"query": query, "start": now - WINDOW_S, "end": now, "step": STEP_S}
    try:
        with urllib.request.urlopen(f"{server}/api/v1/query_range?{urllib.parse.urlencode(form)}") as answer:
            return json.load(answer)["data"]["result"]
    except urllib.error.HTTPError as error:
        sys.exit(f"{query}\n{json.load(error)['error']}")


def main(server, dashboard, out=None):
    with open(dashboard, encoding="utf-8") as file:
        panels = [panel for panel in json.load(file)["panels"] if "targets" in panel]
    told, empty = [], []
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
            told.append({"panel": panel["id"], "target": target["refId"], "series": series})
    if out:
        with open(out, "w", encoding="utf-8") as file:
            json.dump(told, file)
    if empty:
        sys.exit("without a number:\n" + "\n".join(empty))
    print(f"{len(told)} queries of {len(panels)} panels, all with numbers")


main(*sys.argv[1:])
