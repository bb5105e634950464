"""`python -m brainalign`."""

from brainalign.cli.main import main

if __name__ == "__main__":
    main()
