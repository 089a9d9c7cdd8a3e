"""A service of a few lines: says hello, and says that it is well. `page.py PORT [GREETING]`."""

import http.server
import sys


class Page(http.server.BaseHTTPRequestHandler):
    """One page, and /healthz."""

    def do_GET(self) -> None:
        """Answer."""
        pages = {"/": f"{GREETING}\n".encode(), "/healthz": b"well\n"}
        body = pages.get(self.path, b"there is no such page\n")
        self.send_response(200 if self.path in pages else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_words: object) -> None:
        """Say nothing: a log line for each probe helps nobody."""


PORT = int(sys.argv[1])
GREETING = sys.argv[2] if len(sys.argv) > 2 else "hello"

if __name__ == "__main__":
    http.server.ThreadingHTTPServer(("", PORT), Page).serve_forever()
