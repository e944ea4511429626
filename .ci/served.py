"""Starts ``inward serve`` as a user does, and opens its page with the link that it prints."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import urllib.request
from http.cookiejar import CookieJar


def main(program: str) -> None:
    """Fails where the page, one of its files, or the session is not there."""
    words = [program, "serve", "--no-browser", "--port", "0", "--out", "served"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as server:
        try:
            link = server.stdout.readline().strip() if server.stdout else ""
            browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))
            page = browser.open(link, timeout=30).read().decode()
            files = re.findall(r'(?:src|href)="\./([^"]+)"', page)
            assert any(file.endswith(".js") for file in files), page
            base = link.partition("?")[0]
            for file in files:
                assert browser.open(base + file, timeout=30).read(), file
            session = json.load(browser.open(f"{base}api/session", timeout=30))
            assert [net["name"] for net in session["networks"]] == ["inward/normal", "inward/robust"]
        finally:
            server.send_signal(signal.SIGINT)
        assert server.wait(timeout=30) == 0
    print(f"served, with {len(files)} files of the page")


if __name__ == "__main__":
    main(sys.argv[1])
