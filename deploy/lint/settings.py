"""Whether what is set of weir is what weir has, and whether who stops it waits as long as it drains.

    settings.py FILE...

Takes TOML files of weir's, systemd units, Dockerfiles, what `docker compose config --format json` prints, and Kubernetes'
manifests; run in the project's folder.
"""

import json
import pathlib
import re
import sys
import tomllib

import yaml

DEFAULT = pathlib.Path("src/config/default.toml").read_text()
# Of the command line, not of the configuration.
OTHERS = {"WEIR_CONFIG", "WEIR_API", "WEIR_TOKEN", "WEIR_TOKEN_FILE"}
# What cutting off the rest takes, after unready_s and drain_s.
CUT_S = 5


def keys():
    """All keys of default.toml, also those that stand there as comments."""
    table = ""
    for line in DEFAULT.splitlines():
        if header := re.fullmatch(r"\[([a-z_.]+)\]", line):
            table = header[1] + "."
        elif key := re.match(r"(?:# )?([a-z_0-9]+) = ", line):
            yield table + key[1]


KEYS = set(keys())
DEFAULTS = tomllib.loads(DEFAULT)


def of_environment(names):
    for name in sorted(set(names) - OTHERS):
        key = name.removeprefix("WEIR_").lower().replace("__", ".")
        if key not in KEYS:
            yield f"{name}: there is no key {key}"


def of_toml(values, table=""):
    for key, value in values.items():
        path = table + key
        if isinstance(value, dict):
            yield from of_toml(value, path + ".")
        elif path not in KEYS:
            yield f"there is no key {path}"


def patience(settings, waits_s):
    """`settings`: unready_s and drain_s as far as they are set."""
    needs = sum(int(settings.get(key, DEFAULTS[key])) for key in ("unready_s", "drain_s")) + CUT_S
    if waits_s < needs:
        yield f"weir is killed after {waits_s} s, and may take {needs} s"


def drains(environment):
    return {key: environment[name] for key in ("unready_s", "drain_s") if (name := f"WEIR_{key.upper()}") in environment}


def of_unit(path, text):
    waits_s = int(re.search(r"^TimeoutStopSec=(\d+)s$", text, re.M)[1])
    config = path.with_name(pathlib.Path(re.search(r"--config (\S+)", text)[1]).name)
    settings = tomllib.loads(config.read_text()) if config.exists() else {}
    # A control plane takes three seconds.
    return [] if " control " in text else patience(settings, waits_s)


def of_compose(config):
    for name, service in config["services"].items():
        for volume in service.get("volumes", []):
            if volume["type"] == "bind" and not pathlib.Path(volume["source"]).exists():
                yield f"{name}: {volume['source']} is not there"
        environment = service.get("environment", {})
        names = [key for key in environment if key.startswith("WEIR_")]
        yield from (f"{name}: {what}" for what in of_environment(names))
        if names:
            minutes, seconds = re.fullmatch(r"(?:(\d+)m)?(\d+)s", service["stop_grace_period"]).groups("0")
            waits_s = 60 * int(minutes) + int(seconds)
            yield from (f"{name}: {what}" for what in patience(drains(environment), waits_s))
        if "healthcheck" not in service and not names:
            yield f"{name}: no healthcheck"
        if service.get("restart") != "unless-stopped":
            yield f"{name}: it is not started again"


def of_manifests(documents):
    for document in filter(None, documents):
        name = f"{document['kind']} {document['metadata']['name']}"
        if document["kind"] == "ConfigMap":
            text = document["data"]["weir.toml"]
            yield from (f"{name}: {what}" for what in of_toml(tomllib.loads(text)))
        pod = document.get("spec", {}).get("template", {}).get("spec")
        if not pod:
            continue
        for container in pod["containers"]:
            environment = {entry["name"]: entry.get("value") for entry in container["env"]}
            names = [key for key in environment if key.startswith("WEIR_")]
            yield from (f"{name}: {what}" for what in of_environment(names))
            if container["args"] != ["control"]:
                waits_s = pod["terminationGracePeriodSeconds"]
                yield from (f"{name}: {what}" for what in patience(drains(environment), waits_s))


def of(path):
    text = path.read_text()
    if path.suffix == ".toml":
        return of_toml(tomllib.loads(text))
    if path.suffix == ".service":
        return of_unit(path, text)
    if path.suffix == ".json":
        return of_compose(json.loads(text))
    if path.suffix == ".yaml":
        return of_manifests(yaml.safe_load_all(text))
    return of_environment(re.findall(r"\bWEIR_[A-Z0-9_]+", text))


found = [f"{path}: {what}" for path in sys.argv[1:] for what in of(pathlib.Path(path))]
for line in found:
    print(line, file=sys.stderr)
sys.exit(1 if found else 0)
