"""Fetches one URL over HTTP/3 and nothing else: fetch.py CERTIFICATE URL. The body goes to standard output."""

import sys

from curl_cffi import CurlHttpVersion, requests

certificate, url = sys.argv[1:]
with requests.Session(verify=certificate, http_version=CurlHttpVersion.V3ONLY) as session:
    answer = session.get(url, stream=True, timeout=80)
    if answer.status_code != 200:
        sys.exit(f"{url}: {answer.status_code}")
    for piece in answer.iter_content():
        sys.stdout.buffer.write(piece)
