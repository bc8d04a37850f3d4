"""``python -m lerenet``."""

from lerenet.cli.main import main

if __name__ == "__main__":
    main()
