"""`python -m prefixcap`: the same command as `prefixcap`."""

import sys

from prefixcap.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
