"""Whether what rules, dashboards and the autoscaler ask for is what weir has.

    metrics.py RULES TESTS DASHBOARD CHART_YAML EXPRESSIONS

Names and labels are looked up in the Rust sources: a metric is a string there ("weir_edge_viewers"), or a pattern
("weir_edge_{name}_total") with its middle beside it ("sent_bytes"). EXPRESSIONS is written: a file of rules with all
expressions of the dashboard, for promtool.
"""

import json
import pathlib
import re
import sys

import yaml

# What is not weir's, or is Prometheus' own.
LABELS = {"instance", "job", "le", "alertname", "alertstate", "severity", "version"}
# Labels whose values are of the configuration.
CONFIGURED = {"origin", "endpoint"}
STRING = re.compile(r'"([A-Za-z0-9_{}/.-]+)"')
METRIC = re.compile(r"\bweir_[a-z0-9_]+")
MATCHER = re.compile(r'([a-z_]+)\s*(=~|!~|!=|=)\s*"([^"]*)"')


def sources():
    """The strings of each Rust file, without its tests."""
    for path in pathlib.Path(".").glob("**/src/**/*.rs"):
        if "target" in path.parts or "tests" in path.parts or path.name == "tests.rs":
            continue
        code = re.split(r"^#\[cfg\(test\)\]\nmod \w+ \{", path.read_text(), flags=re.M)[0]
        yield set(STRING.findall(re.sub(r"^\s*//.*", "", code, flags=re.M)))


FILES = list(sources())
STRINGS = set().union(*FILES)


def is_metric(name):
    for full in {name, re.sub(r"_(bucket|count|sum)$", "", name)}:
        if full in STRINGS:
            return True
        for strings in FILES:
            for pattern in strings:
                head, brace, tail = pattern.partition("{name}")
                if not brace or not full.startswith(head) or not full.endswith(tail):
                    continue
                if full[len(head) : len(full) - len(tail)] in strings:
                    return True
    return False


def is_label(name):
    return name in LABELS or name in STRINGS


def matches(operator, value):
    """Whether some string of the sources is what a matcher looks for."""
    if operator in ("=", "!="):
        return value in STRINGS
    # Each alternative of its own, so that one that is misspelt is found.
    return all(any(re.fullmatch(part, text) for text in STRINGS) for part in value.split("|"))


def findings(text):
    for name in METRIC.findall(text):
        if not is_metric(name):
            yield f"no metric is called {name}"
    for selector in re.findall(r"\bweir[a-z0-9_:]+\{([^}]*)\}", text):
        for label, operator, value in MATCHER.findall(selector):
            if not is_label(label):
                yield f"no metric has a label {label}"
            elif label not in LABELS | CONFIGURED and not matches(operator, value):
                yield f"no {label} is {value}"
    named = re.findall(r"\b(?:by|without|on|ignoring) *\(([a-z_, ]+)\)", text)
    named += re.findall(r"\{\{ *(?:\$labels\.)?([a-z_]+) *\}\}", text)
    for label in (label.strip() for names in named for label in names.split(",")):
        if not is_label(label):
            yield f"no metric has a label {label}"


def dashboard(path):
    """The expressions of a dashboard, with what Grafana fills in."""
    board = json.loads(path.read_text())
    ids, expressions = [], []
    for panel in board["panels"]:
        ids.append(panel["id"])
        for target in panel.get("targets", []):
            text = target["expr"].replace("$__rate_interval", "1m").replace("$instance", ".*")
            if "$" in text:
                yield f"panel {panel['title']}: a variable that is not known here: {text}"
            expressions.append({"record": f"panel:{panel['id']}:{target['refId']}", "expr": text})
    if len(ids) != len(set(ids)):
        yield "two panels have one id"
    groups = {"groups": [{"name": "dashboard", "rules": expressions}]}
    pathlib.Path(sys.argv[5]).write_text(yaml.safe_dump(groups))


def untested(rules, tests):
    alerts = {rule["alert"] for group in rules["groups"] for rule in group["rules"] if "alert" in rule}
    for alert in sorted(alerts):
        if not re.search(rf"\b{alert}\b", tests):
            yield f"no test has {alert} fire"


def main():
    rules, tests, board, chart = (pathlib.Path(path) for path in sys.argv[1:5])
    found = 0
    checks = [(path, findings(path.read_text().replace('\\"', '"'))) for path in (rules, tests, board, chart)]
    checks += [(board, dashboard(board)), (tests, untested(yaml.safe_load(rules.read_text()), tests.read_text()))]
    recorded = set(re.findall(r"record: (weir:\S+)", rules.read_text()))
    for path in (rules, tests, board):
        unknown = set(re.findall(r"\bweir:[a-z0-9_:]+", path.read_text())) - recorded
        checks.append((path, [f"no rule records {name}" for name in sorted(unknown)]))
    for path, what in checks:
        for text in dict.fromkeys(what):
            print(f"{path}: {text}", file=sys.stderr)
            found += 1
    sys.exit(1 if found else 0)


main()
