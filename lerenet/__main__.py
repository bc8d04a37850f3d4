"""``python -m lerenet``."""

from lerenet.cli import main

if __name__ == "__main__":
    main()
