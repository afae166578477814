"""Ask the server whether it answers requests; exit code 0 if it does."""

import urllib.request

urllib.request.urlopen("http://127.0.0.1:8000/v2/health/ready", timeout=4)
