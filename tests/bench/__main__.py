"""`make bench`: the request path on a whole appliance, then the cost of its parts."""

import subprocess
import sys

from tests.bench import frontend

PARTS = ("http_floor", "link", "prefix_index", "preprocess", "routing", "streams")


def main() -> None:
    frontend.main()
    for part in PARTS:
        print(f"\n== {part}", flush=True)
        subprocess.run([sys.executable, "-m", f"tests.bench.{part}"], check=True)


if __name__ == "__main__":
    main()
