"""`python -m wilss_train` is `wilss-train`, for launchers that start modules."""

from wilss_train.cli import train

if __name__ == "__main__":
    train()
